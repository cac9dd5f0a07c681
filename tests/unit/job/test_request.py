"""The contract's request: its defaults, what it accepts, and what is made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from farm.job import JobRequest
from tests.support.requests import GIVEN

EXAMPLES = Path(__file__).parents[3] / "examples"
NAMED = [
    "single_image",
    "single_video",
    "two_speakers_para",
    "two_speakers_add",
    "tts_single",
    "tts_multi",
]

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


def test_a_request_of_three_fields_has_the_contracts_defaults():
    request = JobRequest.parse(GIVEN)
    assert {field: getattr(request, field) for field in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize("fields", ACCEPTED, ids=str)
def test_a_value_at_its_limit_is_accepted_unchanged(fields):
    request = JobRequest.parse(GIVEN | fields)
    assert {field: getattr(request, field) for field in fields} == fields


def test_a_request_without_a_prompt_gets_a_common_one():
    given = {name: value for name, value in GIVEN.items() if name != "prompt"}
    assert JobRequest.parse(given).prompt == "a person talks to the camera"


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
