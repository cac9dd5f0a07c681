"""The contract: accepted and refused requests, and the errors of refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from farm.errors import InvalidInput
from farm.job import NOT_YET, JobRequest
from farm.validation import as_json

EXAMPLES = Path(__file__).parents[3] / "examples"
NAMED = [
    "single_image",
    "single_video",
    "two_speakers_para",
    "two_speakers_add",
    "tts_single",
    "tts_multi",
]
FACE = "https://example.org/face.png"
VOICE = {"person1": "https://example.org/voice.wav"}
GIVEN: dict[str, Any] = {"prompt": "a woman talks", "cond_video": FACE, "cond_audio": VOICE}

DEFAULTS = {
    "quality": None,
    "model": None,
    "negative_prompt": None,
    "size": None,
    "mode": "auto",
    "frame_num": None,
    "max_frame_num": None,
    "motion_frame": None,
    "sample_steps": None,
    "sample_shift": None,
    "sample_text_guide_scale": None,
    "sample_audio_guide_scale": None,
    "color_correction_strength": 1.0,
    "use_teacache": None,
    "teacache_thresh": 0.2,
    "use_apg": False,
    "apg_momentum": -0.75,
    "apg_norm_threshold": 55,
    "base_seed": 42,
    "lora": (),
    "quant": None,
    "scene_seg": False,
    "webhook": None,
    "priority": "normal",
    "idempotency_key": None,
}

ACCEPTED: list[dict[str, Any]] = [
    {"prompt": "x"},
    {"prompt": "ü 你好 🎤"},
    {"prompt": "x" * 5000, "negative_prompt": "x" * 5000},
    {"negative_prompt": ""},
    {"cond_video": "https://example.org/" + "a" * 3980},
    {"cond_video": "data:image/png;base64," + "A" * 1_000_000},
    {"cond_video": "http://example.org/face"},
    {"cond_video": "HTTPS://EXAMPLE.ORG/FACE.PNG"},
    {"cond_video": "store://uploads/1234"},
    {"cond_video": "data:image/png;base64,AAAA"},
    {"cond_video": "faces/my face: the best one.png"},
    {"size": "infinitetalk-720"},
    {"webhook": "https://example.org/done?job=1"},
    {"webhook": "HTTPS://hooks.example.org:8443"},
    {"mode": "auto"},
    {"mode": "streaming"},
    {"mode": None},
    {"quality": "draft"},
    {"quality": "fast"},
    {"quality": "best"},
    {"quality": None},
    {"frame_num": 5, "motion_frame": 1},
    {"frame_num": 1001},
    {"max_frame_num": 1},
    {"max_frame_num": 2_250_000},
    {"max_frame_num": None},
    {"quant": "auto"},
    {"quant": "none"},
    {"motion_frame": 1},
    {"motion_frame": 77},
    {"sample_steps": 1},
    {"sample_steps": 1000},
    {"sample_shift": 0.01},
    {"sample_shift": 100},
    {"sample_text_guide_scale": 0},
    {"sample_text_guide_scale": 20.0},
    {"sample_audio_guide_scale": 0},
    {"sample_audio_guide_scale": 20},
    {"color_correction_strength": 0},
    {"color_correction_strength": 1},
    {"teacache_thresh": 0},
    {"teacache_thresh": 1},
    {"apg_momentum": -1},
    {"apg_momentum": 1},
    {"apg_norm_threshold": 0},
    {"base_seed": -1},
    {"base_seed": 0},
    {"base_seed": 2**63 - 1},
    {"priority": "low"},
    {"priority": "high"},
    {"idempotency_key": "k"},
    {"idempotency_key": "k" * 200},
]

REFUSED: list[tuple[str, Any, str]] = [
    ("cond_video", "http:///face.png", "a URL needs the name or the address of a host"),
    ("prompt", "", "it must have 1 or more characters"),
    ("prompt", " \n", "must not be blank"),
    ("prompt", "x" * 5001, "it may have 5000 characters at most"),
    ("prompt", None, "it must be text"),
    ("prompt", 7, "it must be text"),
    ("prompt", ["a woman"], "it must be text"),
    ("negative_prompt", 7, "it must be text"),
    ("negative_prompt", "x" * 5001, "it may have 5000 characters at most"),
    ("cond_video", "https://example.org/" + "a" * 3981, "at most 4000 characters"),
    ("cond_video", "", "it must have 1 or more characters"),
    ("cond_video", None, "it must be text"),
    ("cond_video", "ftp://example.org/face.png", "http://, https:// or store://"),
    ("cond_video", "file:///etc/passwd", "http://, https:// or store://"),
    ("cond_video", "s3://bucket/face.png", "http://, https:// or store://"),
    ("cond_audio", "voice.wav", "it must be an object"),
    ("size", "infinitetalk-1080", "infinitetalk-720"),
    ("size", 480, "infinitetalk-480"),
    ("mode", "stream", "streaming"),
    ("quality", "high", "'draft', 'fast' or 'best'"),
    ("frame_num", 1, "5"),
    ("frame_num", 80, "77 or 81"),
    ("frame_num", 82, "81 or 85"),
    ("frame_num", 1005, "1001"),
    ("frame_num", 81.5, "it must be a whole number"),
    ("frame_num", "81", "it must be a whole number"),
    ("frame_num", True, "it must be a whole number"),
    ("max_frame_num", 0, "1"),
    ("max_frame_num", 2_250_001, "2250000"),
    ("motion_frame", 11, "9 or 13"),
    ("motion_frame", 0, "1"),
    ("motion_frame", -3, "1"),
    ("sample_steps", 0, "it must be 1 or more"),
    ("sample_steps", 1001, "it must be 1000 or less"),
    ("sample_steps", 4.5, "it must be a whole number"),
    ("sample_shift", 0, "it must be above 0"),
    ("sample_shift", 100.5, "100"),
    ("sample_text_guide_scale", -0.1, "0"),
    ("sample_text_guide_scale", 20.1, "it must be 20 or less"),
    ("sample_text_guide_scale", float("nan"), "it must be a finite number"),
    ("sample_audio_guide_scale", 20.1, "20"),
    ("sample_audio_guide_scale", float("inf"), "it must be a finite number"),
    ("color_correction_strength", 1.1, "1"),
    ("color_correction_strength", -0.1, "0"),
    ("use_teacache", "yes", "true or false"),
    ("use_teacache", 1, "true or false"),
    ("teacache_thresh", 1.1, "1"),
    ("use_apg", "no", "true or false"),
    ("apg_momentum", -1.1, "-1"),
    ("apg_momentum", 1.1, "1"),
    ("apg_norm_threshold", -1, "0"),
    ("base_seed", -2, "-1"),
    ("base_seed", 2**63, "9223372036854775808"),
    ("base_seed", 1.5, "it must be a whole number"),
    ("audio_type", "both", "'para' or 'add'"),
    ("quant", "int4", "int8"),
    ("num_persistent_param_in_dit", -1, "0 to 10^12"),
    ("num_persistent_param_in_dit", 10**12 + 1, "0 to 10^12"),
    ("apg_norm_threshold", 1_000_001, "0 to 1000000"),
    ("lora", [{"name": "a"}] * 17, "it may have 16 items at most"),
    ("offload_model", "no", "true, false"),
    ("lora", "fast", "scale"),
    ("scene_seg", "no", "true"),
    ("output_config", "s3", "volume"),
    ("webhook", 7, "https"),
    ("webhook", "http://example.org/done", "https://"),
    ("webhook", "https://", "with a host"),
    ("webhook", "https:///done", "with a host"),
    ("webhook", "https://anna:secret@example.org/", "without password"),
    ("webhook", "https://example.org/#done", "#"),
    ("webhook", "https://example.org/a b", "spaces"),
    ("webhook", "https://example.org/\n", "spaces"),
    ("webhook", "https://example.org:99999/", "with a host"),
    ("webhook", "https://example.org/" + "a" * 2000, "2000"),
    ("priority", "urgent", "low, normal or high"),
    ("idempotency_key", "", "1 to 200"),
    ("idempotency_key", "k" * 201, "1 to 200"),
]

UNSUPPORTED: list[tuple[str, dict[str, Any]]] = [
    ("quant_dir", {"quant_dir": "quant"}),
]

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


def refusal(fields: dict[str, Any]) -> str:
    with pytest.raises(InvalidInput) as caught:
        JobRequest.parse(fields)
    return caught.value.message


def test_a_request_of_three_fields_has_the_contracts_defaults():
    request = JobRequest.parse(GIVEN)
    assert {field: getattr(request, field) for field in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize("fields", ACCEPTED, ids=str)
def test_a_value_at_its_limit_is_accepted_unchanged(fields):
    request = JobRequest.parse(GIVEN | fields)
    assert {field: getattr(request, field) for field in fields} == fields


def test_text_can_replace_the_audio():
    request = JobRequest.parse(
        GIVEN | {"cond_audio": None, "tts_audio": {"text": "hello", "human1_voice": "en-us"}}
    )
    assert request.tts_audio is not None
    assert (request.tts_audio.text, request.tts_audio.human1_voice) == ("hello", "en-us")


@pytest.mark.parametrize(("field", "value", "why"), REFUSED, ids=lambda part: str(part)[:30])
def test_a_wrong_value_is_refused_with_its_field_and_the_allowed_values(field, value, why):
    message = refusal(GIVEN | {field: value})
    shown = as_json(value)
    assert message.startswith(f"{field}: got {shown[:80]}")
    assert why in message
    assert f"; allowed: {JobRequest.model_fields[field].description}" in message


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"cond_audio": {"person1": "https://a/" + "b" * 4000}}, "cond_audio.person1"),
        ({"lora": [{"name": "n" * 201}]}, "lora.0.name"),
        ({"lora": [{"name": "n", "scale": 101}]}, "lora.0.scale"),
        ({"bbox": [0, 0, 16_385, 9]}, "bbox.person1.2"),
        ({"output_config": {"store": "s3", "bucket": "b" * 64}}, "output_config.bucket"),
        (
            {"output_config": {"store": "volume", "prefix": "p" * 256}},
            "output_config.prefix",
        ),
        ({"quant_dir": "q" * 201}, "quant_dir"),
        (
            {"cond_audio": None, "tts_audio": {"text": "a", "human1_voice": "v" * 201}},
            "tts_audio.human1_voice",
        ),
        (
            {"cond_audio": None, "tts_audio": {"text": "(s1) a", "human2_voice": "v" * 201}},
            "tts_audio.human2_voice",
        ),
        ({"cond_audio": None, "tts_audio": {"text": "a" * 100_001}}, "tts_audio.text"),
    ],
    ids=lambda part: str(part)[:40],
)
def test_every_part_of_a_field_has_a_limit(fields, name):
    message = refusal(GIVEN | fields)
    assert message.startswith(f"{name}: got ")
    assert len(message) < 500


def unlimited(schema: dict[str, Any], name: str) -> Iterator[str]:
    """The texts, lists and numbers of a JSON schema that may be of any length or size."""
    limits = {
        "string": "maxLength",
        "array": "maxItems",
        "integer": "maximum",
        "number": "maximum",
    }
    wanted = limits.get(schema.get("type", ""))
    is_limited = {wanted, "enum", "const", "pattern", "exclusiveMaximum"} & schema.keys()
    if wanted and not is_limited:
        yield name
    for part, inner in schema.get("properties", {}).items():
        yield from unlimited(inner, f"{name}.{part}")
    for inner in [*schema.get("anyOf", ()), *schema.get("prefixItems", ())]:
        yield from unlimited(inner, name)
    if isinstance(schema.get("items"), dict):
        yield from unlimited(schema["items"], name)


def test_every_text_list_and_number_of_the_contract_is_limited():
    schema = JobRequest.model_json_schema()
    found = {
        name
        for kind, part in [("JobRequest", schema), *schema["$defs"].items()]
        for name in unlimited(part, kind)
    }
    # But for sources, which may be inline data.
    assert found == {
        "CondAudio.person1",
        "CondAudio.person2",
        "JobRequest.cond_video",
    }


@pytest.mark.parametrize("text", ["<speak>Hi</speak>", '<SPEAK version="1.0">Hi', "Hi <speak/>"])
def test_ssml_is_refused(text):
    message = refusal(GIVEN | {"cond_audio": None, "tts_audio": {"text": text}})
    assert message.startswith(f"tts_audio.text: got {text!r}; SSML is not supported; it must be")


def test_the_word_speak_is_no_ssml():
    spoken = {"text": "a <speaker> speaks"}
    assert JobRequest.parse(GIVEN | {"cond_audio": None, "tts_audio": spoken})


def test_two_equal_boxes_are_refused():
    message = refusal(GIVEN | TWO | {"bbox": {"person1": LEFT, "person2": LEFT}})
    assert message.startswith("bbox.person2: got [0, 0, 10, 20]; it is the box of person1")


def test_a_long_unknown_field_is_shortened_in_the_error():
    message = refusal(GIVEN | {"a" * 1_000_000: 1})
    assert message == f"{'a' * 80}... (1000000 characters): there is no such field"


def test_a_long_wrong_value_is_truncated_in_the_error():
    message = refusal(GIVEN | {"size": "a" * 5000})
    assert "(5002 characters)" in message
    assert len(message) < 400


def test_a_request_without_a_prompt_gets_a_common_one():
    given = {name: value for name, value in GIVEN.items() if name != "prompt"}
    assert JobRequest.parse(given).prompt == "a person talks to the camera"


@pytest.mark.parametrize("field", ["cond_video"])
def test_a_missing_field_is_named(field):
    message = refusal({name: value for name, value in GIVEN.items() if name != field})
    assert (
        message == f"{field}: it is missing; allowed: {JobRequest.model_fields[field].description}"
    )


def test_audio_without_the_first_speaker_is_refused_by_name():
    assert refusal(GIVEN | {"cond_audio": {}}).startswith("cond_audio.person1: it is missing")


@pytest.mark.parametrize(("value", "shown"), [("", "''"), (" ", "' '")])
def test_blank_text_is_refused(value, shown):
    message = refusal(GIVEN | {"cond_audio": None, "tts_audio": {"text": value}})
    assert message.startswith(f"tts_audio.text: got {shown}; ")


def test_audio_with_an_unknown_scheme_is_refused_by_the_full_field_name():
    message = refusal(GIVEN | {"cond_audio": {"person1": "gopher://example.org/voice"}})
    assert message.startswith("cond_audio.person1: got 'gopher://example.org/voice'; ")


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
        ({"audio_type": "para"}, "audio_type: got 'para'; there is only one speaker"),
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
            "bbox.person2: got [10.5, 0, 20, 20]; there is only one",
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
            "tts_audio.text: got '(s1) hello'; it has turns of two speakers",
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


def test_all_disagreements_are_named():
    wrong = {"audio_type": "add", "frame_num": 5, "motion_frame": 9, "quant_dir": "x"}
    lines = refusal(GIVEN | {"cond_audio": None, **wrong}).splitlines()
    starts = ["cond_audio: it is", "motion_frame: got 9", "audio_type: got 'add'", "quant_dir: got"]
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


@pytest.mark.parametrize("output", OUTPUTS, ids=str)
def test_a_consistent_output_config_is_accepted(output):
    found = JobRequest.parse(GIVEN | {"output_config": output}).output_config
    assert found.model_dump(exclude_none=True) == output


@pytest.mark.parametrize(("output", "message_start"), INCONSISTENT_OUTPUTS)
def test_an_inconsistent_output_config_is_refused(output, message_start):
    assert refusal(GIVEN | {"output_config": output}).startswith(message_start)


def test_a_request_that_contains_itself_is_refused():
    fields = dict(GIVEN)
    fields["lora"] = [fields]
    refusal(fields)


@pytest.mark.parametrize(("field", "fields"), UNSUPPORTED, ids=lambda part: str(part)[:40])
def test_an_unsupported_field_is_refused_and_not_ignored(field, fields):
    message = refusal(GIVEN | fields)
    assert message.startswith(f"{field}: got ")
    assert "not supported yet" in message


def test_every_unsupported_field_is_tested():
    assert {field for field, _ in UNSUPPORTED} == set(NOT_YET)


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, b"bytes", Path("face.png")], ids=["object", "set", "bytes", "path"]
)
def test_a_value_that_json_cannot_represent_is_refused(value):
    assert "allowed: values that JSON can represent" in refusal(GIVEN | {"prompt": value})


def test_a_request_survives_a_round_trip_through_json():
    request = JobRequest.parse(GIVEN | {"sample_shift": 3, "base_seed": 2**63 - 1})
    assert JobRequest.model_validate_json(request.model_dump_json()) == request


def test_a_request_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        JobRequest.parse(GIVEN).prompt = "another"


def test_the_example_requests_are_complete():
    assert {path.stem for path in EXAMPLES.glob("*.json")} == {
        *NAMED,
        "batch",
        "runpod-endpoint",
    }


@pytest.mark.parametrize("name", NAMED)
def test_an_example_is_a_valid_request(name):
    assert JobRequest.parse(json.loads((EXAMPLES / f"{name}.json").read_text())).prompt


def test_all_sources_are_replaced():
    request = JobRequest.parse(
        {**GIVEN, "cond_audio": {"person1": "a.wav", "person2": "b.wav"}, "audio_type": "add"}
    )
    changed = request.with_sources(lambda source, field: f"{field}={source}")
    assert changed.cond_video == f"cond_video={GIVEN['cond_video']}"
    assert changed.cond_audio.person1 == "cond_audio.person1=a.wav"
    assert changed.cond_audio.person2 == "cond_audio.person2=b.wav"
    assert request.cond_audio.person1 == "a.wav"


def test_text_to_speak_is_not_a_source():
    spoken = JobRequest.parse(
        {"prompt": "x", "cond_video": "a.png", "tts_audio": {"text": "hello"}}
    )
    assert spoken.with_sources(lambda source, field: "b.png") == spoken.model_copy(
        update={"cond_video": "b.png"}
    )
