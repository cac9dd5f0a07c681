"""Values of single fields that the contract refuses, each with what is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.job import NOT_YET, JobRequest
from farm.validation import as_json
from tests.support.requests import GIVEN, refusal

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


def test_a_long_wrong_value_is_truncated_in_the_error():
    message = refusal(GIVEN | {"size": "a" * 5000})
    assert "(5002 characters)" in message
    assert len(message) < 400


@pytest.mark.parametrize(("value", "shown"), [("", "''"), (" ", "' '")])
def test_blank_text_is_refused(value, shown):
    message = refusal(GIVEN | {"cond_audio": None, "tts_audio": {"text": value}})
    assert message.startswith(f"tts_audio.text: got {shown}; ")


def test_audio_with_an_unknown_scheme_is_refused_by_the_full_field_name():
    message = refusal(GIVEN | {"cond_audio": {"person1": "gopher://example.org/voice"}})
    assert message.startswith("cond_audio.person1: got 'gopher://example.org/voice'; ")


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
