"""The values of the page become a request of the contract, or an error."""

from __future__ import annotations

import pytest

from farm.errors import InvalidInput
from farm.job import JobRequest, resolve
from farm.job.request import DEFAULT_PROMPT
from farm.presets import MINIATURE, QUALITIES
from farm.ui import form
from farm.ui.problems import mistakes
from farm.ui.words import ADVANCED

EMPTY = {
    **{name: JobRequest.model_fields[name].default for name in ADVANCED},
    "quality": "",
    **dict.fromkeys(("face", "audio1", "audio2")),
    **dict.fromkeys(("text", "voice1", "voice2"), ""),
    "prompt": "a person talks",
    "speakers": 1,
    "boxes": {},
    "voice": form.RECORDING,
    "order": form.IN_TURN,
}
ONE = {**EMPTY, "face": "face.png", "audio1": "one.wav"}
TWO = {**ONE, "audio2": "two.wav", "speakers": 2}
SPOKEN_TEXT = {**ONE, "voice": form.TEXT, "text": "hello", "audio1": None}


def job(values, **changes):
    return JobRequest.parse(form.request_fields({**values, **changes}))


def test_a_face_and_a_recording_give_a_video_as_long_as_the_recording():
    assert job(ONE) == JobRequest.parse(
        {"prompt": "a person talks", "cond_video": "face.png", "cond_audio": {"person1": "one.wav"}}
    ), "untouched fields are the contract's"


@pytest.mark.parametrize("emptied", ["", " "])
def test_an_emptied_prompt_is_left_to_the_contract(emptied):
    assert job(ONE, prompt=emptied).prompt == DEFAULT_PROMPT


def test_a_text_is_spoken_instead_of_a_recording():
    assert job(SPOKEN_TEXT, voice1="en-us").tts_audio.model_dump() == {
        "text": "hello", "human1_voice": "en-us", "human2_voice": None,
    }  # fmt: skip


@pytest.mark.parametrize(("order", "audio_type"), [(form.IN_TURN, "add"), (form.TOGETHER, "para")])
def test_two_recordings_are_combined_in_turn_or_together(order, audio_type):
    made = job(TWO, order=order)
    assert (made.cond_audio.person2, made.audio_type) == ("two.wav", audio_type)


def test_hidden_inputs_of_the_second_speaker_are_ignored():
    made = job(TWO, speakers=1, boxes={"person1": [0, 0, 1, 1]}, voice2="en-gb")
    assert (made.cond_audio.person2, made.audio_type, made.bbox) == (None, None, None)


def test_boxes_of_both_speakers_are_sent():
    boxes = {
        "face": "/gradio_api/file=x",
        "video": False,
        "person1": [0, 1, 2, 3],
        "person2": [4, 5, 6, 7],
    }
    made = job(TWO, boxes=boxes)
    assert made.bbox.model_dump() == {"person1": (0, 1, 2, 3), "person2": (4, 5, 6, 7)}


def test_a_single_box_for_two_speakers_is_rejected_by_the_contract():
    with pytest.raises(InvalidInput, match=r"bbox\.person2"):
        job(TWO, boxes={"person1": [0, 1, 2, 3], "person2": None})


@pytest.mark.parametrize(
    ("values", "places"),
    [
        (EMPTY, ["face", "audio1"]),
        ({**TWO, "audio2": None}, ["audio2"]),
        ({**SPOKEN_TEXT, "text": None}, ["text"]),
        ({**SPOKEN_TEXT, "speakers": 2, "text": "(s1) a (s2) b"}, ["voice2"]),
    ],
)
def test_all_missing_values_are_named_at_their_inputs(values, places):
    with pytest.raises(InvalidInput) as missing:
        form.request_fields(values)
    assert list(mistakes(missing.value)) == places


@pytest.mark.parametrize(
    ("values", "title"),
    [
        (ONE, "face.png + one.wav: a person talks"),
        ({**ONE, "prompt": DEFAULT_PROMPT}, "face.png + one.wav"),
        (
            {**SPOKEN_TEXT, "prompt": "", "text": "hello\n" * 20},
            f"{'hello ' * 13}h…",
        ),
    ],
)
def test_a_job_is_known_by_its_words_or_files(values, title):
    assert form.title(values) == title


@pytest.mark.parametrize(
    "values",
    [
        {**TWO, "order": form.TOGETHER, "quality": "draft", "base_seed": 7},
        {**SPOKEN_TEXT, "voice1": "de", "sample_steps": "8", "use_teacache": "true"},
        {**ONE, "lora": '[{"name": "turbo", "scale": 1.0}]', "quality": "best"},
        {**TWO, "boxes": {"person1": [0, 1, 20, 30], "person2": [40, 5, 60, 70]}},
    ],
)
def test_the_settings_of_a_job_are_entered_again(values):
    first = resolve(job(values), MINIATURE)
    again = {**values, **form.entered(first)}
    assert resolve(job(again), MINIATURE) == first


def test_usual_settings_are_entered_as_the_defaults():
    again = form.entered(resolve(job(ONE), MINIATURE))
    assert (again["sample_steps"], again["frame_num"], again["max_frame_num"]) == ("", "", "")


def test_a_job_without_boxes_clears_those_drawn_for_another():
    entered = form.entered(resolve(job(ONE), MINIATURE))
    assert entered["boxes"] == {"person1": None, "person2": None}


def test_an_emptied_field_is_left_to_the_model():
    made = job(ONE, sample_steps=None, negative_prompt="")
    assert (made.sample_steps, made.negative_prompt) == (None, None)


def test_a_text_in_a_field_of_another_type_is_parsed_as_json():
    made = job(ONE, sample_shift="5.5", lora='[{"name": "turbo"}]')
    assert (made.sample_shift, made.lora[0].name) == (5.5, "turbo")


@pytest.mark.parametrize("quality", ["", *QUALITIES])
def test_the_quality_is_sent_beside_the_fields_that_are_given(quality):
    made = job(ONE, quality=quality, sample_steps=8, use_teacache="true")
    assert (made.quality, made.sample_steps, made.use_teacache) == (quality or None, 8, True)


def test_fields_missing_from_the_page_are_missing_on_purpose():
    elsewhere = {"prompt", "quality", "cond_video", "cond_audio", "tts_audio", "audio_type", "bbox"}
    operators = {"num_persistent_param_in_dit", "offload_model", "quant_dir"}
    machines = {"output_config", "webhook", "idempotency_key"}
    assert {*ADVANCED, *elsewhere, *operators, *machines} == JobRequest.model_fields.keys()
