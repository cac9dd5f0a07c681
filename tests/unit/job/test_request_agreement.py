"""Fields of a request that must go together: speakers, boxes, chunks, outputs."""

from __future__ import annotations

from typing import Any

import pytest

from farm.job import JobRequest
from tests.support.requests import FACE, GIVEN, VOICE, refusal

OUTPUTS = [
    {"store": "s3", "bucket": "b", "region": "eu-central-1", "prefix": "of/anna"},
    {"store": "volume", "prefix": "of anna"},
    {"store": "inline"},
]

INCONSISTENT_OUTPUTS: list[tuple[dict[str, str], str]] = [
    ({"store": "s3"}, "output_config.bucket: it is missing; s3 needs it"),
    ({"store": "volume", "bucket": "b"}, "output_config.bucket: got 'b'; volume has none"),
    ({"store": "volume", "region": "eu"}, "output_config.region: got 'eu'; volume has none"),
    ({"store": "inline", "prefix": "p"}, "output_config.prefix: got 'p'; inline has none"),
    ({"store": "volume", "prefix": "/etc"}, "output_config.prefix: got '/etc'; it must be names"),
    ({"store": "volume", "prefix": "../up"}, "output_config.prefix: got '../up'; it must be names"),
    (
        {"store": "volume", "prefix": "a/../../b"},
        "output_config.prefix: got 'a/../../b'; it must be names",
    ),
    ({"store": "volume", "prefix": "a//b"}, "output_config.prefix: got 'a//b'; it must be names"),
    ({"store": "volume", "prefix": ""}, "output_config.prefix: got ''; it must be names"),
    ({"store": "volume", "prefix": "a\\b"}, "output_config.prefix: got 'a\\\\b'; it must be names"),
    ({"store": "volume", "prefix": "a\0"}, "output_config.prefix: got 'a\\x00'; it must be names"),
    ({"store": "s3", "bucket": "b", "region": "eu west"}, "output_config.region: got 'eu west'"),
]


def test_text_can_replace_the_audio():
    request = JobRequest.parse(
        GIVEN | {"cond_audio": None, "tts_audio": {"text": "hello", "human1_voice": "en-us"}}
    )
    assert request.tts_audio is not None
    assert (request.tts_audio.text, request.tts_audio.human1_voice) == ("hello", "en-us")


def test_two_equal_boxes_are_refused():
    message = refusal(GIVEN | TWO | {"bbox": {"person1": LEFT, "person2": LEFT}})
    assert message.startswith("bbox.person2: got [0, 0, 10, 20]; it is the box of person1")


@pytest.mark.parametrize(
    "voices", [{}, {"cond_audio": VOICE, "tts_audio": {"text": "hello"}}], ids=["none", "both"]
)
def test_exactly_one_of_audio_and_text_must_be_given(voices):
    message = refusal({"prompt": "x", "cond_video": FACE, **voices})
    assert message.startswith(("cond_audio: it is missing; ", "cond_audio: got {"))
    assert "exactly one of cond_audio (audio) and tts_audio (text to speak)" in message


TWO: dict[str, Any] = {"cond_audio": {**VOICE, "person2": "b.wav"}, "audio_type": "para"}
LEFT = [0, 0, 10, 20]
RIGHT = [10.5, 0, 20, 20]


def talk(text: str, voice: str | None = "en-us") -> dict[str, Any]:
    return {"cond_audio": None, "tts_audio": {"text": text, "human2_voice": voice}}


@pytest.mark.parametrize(
    ("fields", "speakers"),
    [
        ({}, 1),
        ({"bbox": LEFT}, 1),
        (talk("hello", None), 1),
        (TWO, 2),
        (TWO | {"audio_type": "add"}, 2),
        (TWO | {"bbox": {"person1": LEFT, "person2": RIGHT}}, 2),
        (talk("(s1) hello (s2) you too"), 2),
        (talk("(s2) hello (S1) you too") | {"audio_type": "add"}, 2),
    ],
    ids=str,
)
def test_a_second_audio_file_or_voice_means_two_speakers(fields, speakers):
    assert JobRequest.parse(GIVEN | fields).speakers == speakers


def test_a_single_box_belongs_to_the_first_speaker():
    request = JobRequest.parse(GIVEN | {"bbox": LEFT})
    assert request.bbox is not None
    assert (request.bbox.person1, request.bbox.person2) == ((0, 0, 10, 20), None)


@pytest.mark.parametrize(
    ("fields", "message_start"),
    [
        (TWO | {"audio_type": None}, "audio_type: it is missing; two audio files need it"),
        (
            {"audio_type": "para"},
            "audio_type: got 'para'; there is only one speaker; a second one needs",
        ),
        (
            talk("hello", None) | {"audio_type": "add"},
            "audio_type: got 'add'; there is only one speaker",
        ),
        (
            talk("(s1) a (s2) b") | {"audio_type": "para"},
            "audio_type: got 'para'; turns are spoken one after the",
        ),
        (TWO | {"bbox": LEFT}, "bbox.person2: it is missing; two speakers need a box each"),
        (
            {"bbox": {"person1": LEFT, "person2": RIGHT}},
            "bbox.person2: got [10.5, 0, 20, 20]; there is only one speaker; a second one needs",
        ),
        (
            {"bbox": [10, 0, 10, 20]},
            "bbox.person1: got [10, 0, 10, 20]; it must satisfy 0 <= x_min < x_max",
        ),
        ({"bbox": [0, 20, 10, 10]}, "bbox.person1: got [0, 20, 10, 10]; it must satisfy"),
        ({"bbox": [-1, 0, 10, 10]}, "bbox.person1: got [-1, 0, 10, 10]; it must satisfy"),
        ({"bbox": [0, 0, 10]}, "bbox.person1.3: it is missing"),
        ({"bbox": [0, 0, 10, "20"]}, "bbox.person1.3: got '20'; it must be a number"),
        ({"bbox": {"person2": LEFT}}, "bbox.person1: it is missing"),
        ({"bbox": "left"}, "bbox: got 'left'; it must be an object"),
        (talk("hello"), "tts_audio.text: got 'hello'; 'hello' precedes the first mark"),
        (talk("(s1) a (s3) b"), "tts_audio.text: got '(s1) a (s3) b'; the mark (s3) is unknown"),
        (
            talk("(s1) hello", None),
            "tts_audio.text: got '(s1) hello'; it has turns of two speakers; "
            "tts_audio.human2_voice is missing",
        ),
    ],
    ids=str,
)
def test_inconsistent_speakers_are_refused(fields, message_start):
    assert refusal(GIVEN | fields).startswith(message_start)


@pytest.mark.parametrize("motion", [5, 9])
def test_the_overlap_must_be_smaller_than_the_chunk(motion):
    message = refusal(GIVEN | {"frame_num": 5, "motion_frame": motion})
    assert message.startswith(
        f"motion_frame: got {motion}; it must be smaller than frame_num, which is 5"
    )


def test_all_disagreements_are_named():
    wrong = {"audio_type": "add", "frame_num": 5, "motion_frame": 9, "quant_dir": "x"}
    lines = refusal(GIVEN | {"cond_audio": None, **wrong}).splitlines()
    starts = ["cond_audio: it is", "motion_frame: got 9", "audio_type: got 'add'", "quant_dir: got"]
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True))


@pytest.mark.parametrize("output", OUTPUTS, ids=str)
def test_a_consistent_output_config_is_accepted(output):
    found = JobRequest.parse(GIVEN | {"output_config": output}).output_config
    assert found.model_dump(exclude_none=True) == output


@pytest.mark.parametrize(("output", "message_start"), INCONSISTENT_OUTPUTS)
def test_an_inconsistent_output_config_is_refused(output, message_start):
    assert refusal(GIVEN | {"output_config": output}).startswith(message_start)
