"""Fields of a request as texts: on a command line, in a table, in a form."""

import pytest

from farm.errors import InvalidInput
from farm.job import JobRequest, fields_from_text

FIELDS = {"cond_video": "a.png", "cond_audio": {"person1": "a.wav"}}


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("prompt", "5", "5"),
        ("prompt", "null", "null"),
        ("negative_prompt", '"quoted"', '"quoted"'),
        ("cond_video", "1.png", "1.png"),
        ("size", "infinitetalk-720", "infinitetalk-720"),
        ("idempotency_key", "1234", "1234"),
        ("frame_num", "81", 81),
        ("sample_shift", "7.5", 7.5),
        ("sample_shift", "null", None),
        ("use_apg", "true", True),
        ("cond_audio", '{"person1": "a.wav"}', {"person1": "a.wav"}),
        ("bbox", "[1, 2, 3, 4]", [1, 2, 3, 4]),
        ("frame_num", "many", "many"),
        ("unknown", "5", "5"),
        ("lora", "[" * 100_000, "[" * 100_000),
        ("base_seed", "1" * 5000, "1" * 5000),
    ],
    ids=lambda text: str(text)[:20],
)
def test_text_from_a_command_line_is_read_as_json_unless_the_field_is_text(field, text, value):
    assert fields_from_text({field: text}) == {field: value}


def test_text_that_is_not_a_number_is_refused_by_its_field():
    with pytest.raises(InvalidInput, match=r"^sample_steps: got 'many'; "):
        JobRequest.parse(FIELDS | fields_from_text({"sample_steps": "many"}))
