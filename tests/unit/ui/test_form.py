"""What is filled in becomes a job of the contract, or a reason why not."""

from __future__ import annotations

import pytest

from farm.errors import InvalidInput
from farm.job import JobRequest
from farm.ui import form

NOTHING = {
    **{name: form.initial(name, "quality") for name in form.ADVANCED},
    **dict.fromkeys(("face", "sound1", "sound2")),
    **dict.fromkeys(("text", "voice1", "voice2"), ""),
    "prompt": "a person talks",
    "speakers": 1,
    "boxes": {},
    "voice": form.RECORDED,
    "order": form.IN_TURN,
}
ONE = {**NOTHING, "face": "face.png", "sound1": "one.wav"}
TWO = {**ONE, "sound2": "two.wav", "speakers": 2}
WORDS = {**ONE, "voice": form.SPOKEN, "text": "hello", "sound1": None}


def job(filled, **changes):
    return JobRequest.parse(form.request({**filled, **changes}))


def test_a_face_and_a_sound_are_a_video_as_long_as_the_sound():
    made = job(ONE)
    assert (made.cond_video, made.cond_audio.person1, made.mode) == ("face.png", "one.wav", "streaming")
    assert made.model_copy(update={"mode": "clip"}) == JobRequest.parse(
        {"prompt": "a person talks", "cond_video": "face.png", "cond_audio": {"person1": "one.wav"}}
    ), "what nobody touches is the contract's default"


def test_words_are_spoken_instead():
    assert job(WORDS, voice1="en-us").tts_audio.model_dump() == {
        "text": "hello", "human1_voice": "en-us", "human2_voice": None,
    }  # fmt: skip


@pytest.mark.parametrize(("order", "audio_type"), [(form.IN_TURN, "add"), (form.TOGETHER, "para")])
def test_two_sounds_come_in_turn_or_together(order, audio_type):
    made = job(TWO, order=order)
    assert (made.cond_audio.person2, made.audio_type) == ("two.wav", audio_type)


def test_what_is_folded_away_with_the_second_speaker_is_not_sent():
    made = job(TWO, speakers=1, boxes={"person1": [0, 0, 1, 1]}, voice2="en-gb")
    assert (made.cond_audio.person2, made.audio_type, made.bbox) == (None, None, None)


def test_boxes_of_both_speakers_are_sent():
    boxes = {"face": "/gradio_api/file=x", "video": False, "person1": [0, 1, 2, 3], "person2": [4, 5, 6, 7]}
    made = job(TWO, boxes=boxes)
    assert made.bbox.model_dump() == {"person1": (0, 1, 2, 3), "person2": (4, 5, 6, 7)}


def test_one_box_of_two_is_refused_by_the_contract():
    with pytest.raises(InvalidInput, match=r"bbox\.person2"):
        job(TWO, boxes={"person1": [0, 1, 2, 3], "person2": None})


@pytest.mark.parametrize(
    ("filled", "named"),
    [
        (NOTHING, "face"),
        ({**ONE, "sound1": None}, "person1"),
        ({**TWO, "sound2": None}, "person2"),
        ({**WORDS, "speakers": 2, "text": "(s1) a (s2) b"}, "second voice"),
    ],
)
def test_what_is_missing_is_named(filled, named):
    with pytest.raises(InvalidInput, match=named):
        form.request(filled)


def test_a_field_that_was_emptied_takes_the_default():
    made = job(ONE, sample_steps=None, negative_prompt="")
    assert (made.sample_steps, made.negative_prompt) == (40, None)


def test_texts_of_fields_that_are_no_text_are_json():
    made = job(ONE, sample_shift="5.5", lora='[{"name": "turbo"}]')
    assert (made.sample_shift, made.lora[0].name) == (5.5, "turbo")


@pytest.mark.parametrize("preset", form.PRESETS)
def test_a_preset_writes_fields_that_can_be_seen(preset):
    assert form.PRESETS[preset].keys() == form.PRESETS["quality"].keys() <= set(form.ADVANCED)
    assert job(ONE, **form.PRESETS[preset])


def test_what_is_not_on_the_page_is_meant_so():
    elsewhere = {"prompt", "cond_video", "cond_audio", "tts_audio", "audio_type", "bbox"}
    operators = {"num_persistent_param_in_dit", "offload_model", "quant_dir"}
    machines = {"output_config", "webhook", "idempotency_key"}
    assert {*form.ADVANCED, *elsewhere, *operators, *machines} == JobRequest.model_fields.keys()
