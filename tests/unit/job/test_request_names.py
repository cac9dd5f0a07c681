"""Names of fields: missing, unknown and misspelt ones."""

from __future__ import annotations

from typing import Any

import pytest

from farm.job import JobRequest
from tests.support.requests import FACE, GIVEN, VOICE, refusal

MISSPELT: list[tuple[dict[str, Any], str, str]] = [
    ({"promt": "a woman"}, "promt", "prompt"),
    ({"cond_vido": FACE}, "cond_vido", "cond_video"),
    ({"sample_step": 4}, "sample_step", "sample_steps"),
    ({"seed": 4}, "seed", "base_seed"),
    ({"motion_frames": 9}, "motion_frames", "motion_frame"),
    ({"steps": 4}, "steps", "sample_steps"),
    ({"image": FACE}, "image", "cond_video"),
    ({"image_url": FACE}, "image_url", "cond_video"),
    ({"audio": "a.wav"}, "audio", "cond_audio.person1"),
    ({"audio_url": "a.wav"}, "audio_url", "cond_audio.person1"),
    ({"audio2": "a.wav"}, "audio2", "cond_audio.person2"),
    ({"voice_id": "de"}, "voice_id", "tts_audio.human1_voice"),
    ({"cond_audio": {"persn1": "a.wav"}}, "cond_audio.persn1", "cond_audio.person1"),
    ({"cond_audio": None, "tts_audio": {"txt": "hello"}}, "tts_audio.txt", "tts_audio.text"),
    ({"output_config": {"stor": "s3"}}, "output_config.stor", "output_config.store"),
]


def test_a_long_unknown_field_is_shortened_in_the_error():
    message = refusal(GIVEN | {"a" * 1_000_000: 1})
    assert message == f"{'a' * 80}... (1000000 characters): there is no such field"


@pytest.mark.parametrize("field", ["cond_video"])
def test_a_missing_field_is_named(field):
    message = refusal({name: value for name, value in GIVEN.items() if name != field})
    assert (
        message == f"{field}: it is missing; allowed: {JobRequest.model_fields[field].description}"
    )


def test_audio_without_the_first_speaker_is_refused_by_name():
    assert refusal(GIVEN | {"cond_audio": {}}).startswith("cond_audio.person1: it is missing")


@pytest.mark.parametrize(("fields", "wrong", "right"), MISSPELT, ids=lambda part: str(part)[:30])
def test_a_misspelt_field_gets_a_hint_with_the_closest_one(fields, wrong, right):
    assert refusal(GIVEN | fields) == f"{wrong}: there is no such field; did you mean {right}?"


def test_a_misspelt_required_field_explains_why_it_is_missing():
    message = refusal({"promt": "x", "cond_video": FACE, "cond_audio": VOICE})
    assert message == "promt: there is no such field; did you mean prompt?"


def test_all_mistakes_are_named_unknown_fields_first():
    wrong = {"mode": "slow", "sample_steps": 0, "tts_audio": {"text": " "}, "pompt": "x"}
    lines = refusal({"cond_video": FACE, **wrong}).splitlines()
    starts = [
        "pompt: there is no",
        "tts_audio.text: got ' '",
        "mode: got 'slow'",
        "sample_steps: g",
    ]
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True))


def test_of_very_many_mistakes_the_first_are_named():
    assert len(refusal({f"field{number}": 1 for number in range(1000)}).splitlines()) == 10


@pytest.mark.parametrize("name", ["zzzzzz", "photo", "speech", "file", "length", "fps"])
def test_a_field_similar_to_none_is_refused_without_a_hint(name):
    assert refusal(GIVEN | {name: 1}) == f"{name}: there is no such field"


@pytest.mark.parametrize("wrong", ["Prompt", "frame-num", "frame num", "", "1"])
def test_a_field_that_is_not_an_identifier_is_refused_by_name(wrong):
    assert refusal(GIVEN | {wrong: 1}).startswith(f"{wrong}: there is no such field")


def test_a_capitalised_speaker_is_refused_by_its_full_name():
    message = refusal(GIVEN | {"cond_audio": {"Person1": "a.wav"}})
    assert message == "cond_audio.Person1: there is no such field; did you mean cond_audio.person1?"
