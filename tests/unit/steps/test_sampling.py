"""What a request asks of the model, and what the operator lets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farm.errors import InvalidInput
from farm.job import JobRequest
from farm.model.caching import TeaCache
from farm.model.guidance import Apg
from farm.model.pipeline import Sampling
from farm.model.presets import preset
from farm.model.variant import Variant
from farm.settings import Settings
from farm.steps.sampling import used_parameters, sampling, default_variant, variant

MINIATURE, LARGE = preset("miniature"), preset("infinitetalk-480")


def request(**fields: Any) -> JobRequest:
    given = {"prompt": "a man talks", "cond_video": "face.png", "cond_audio": {"person1": "voice.wav"}}
    return JobRequest.parse({**given, **fields})


def settings(**variables: str) -> Settings:
    return Settings.load({f"FARM_{name}": value for name, value in variables.items()})


def test_a_plain_request_is_drawn_with_the_defaults_on_the_plain_model() -> None:
    assert sampling(request(), MINIATURE, settings()) == Sampling()
    assert variant(request(), settings()) == default_variant(settings()) == Variant()


@pytest.mark.parametrize(("size", "shift"), [("infinitetalk-480", 7.0), ("infinitetalk-720", 11.0)])
def test_a_shift_that_is_left_open_is_the_models_for_the_size(size: str, shift: float) -> None:
    assert sampling(request(size=size), LARGE, settings()).shift == shift
    assert sampling(request(size=size, sample_shift=2.0), LARGE, settings()).shift == 2.0


def test_apg_is_as_asked() -> None:
    asked = request(use_apg=True, apg_momentum=-0.5, apg_norm_threshold=12)
    assert sampling(asked, MINIATURE, settings()).apg == Apg(momentum=-0.5, norm_threshold=12)


@pytest.mark.parametrize(("size", "highest"), [("infinitetalk-480", 2.57151496e5), ("infinitetalk-720", 8.10705460e3)])
def test_teacache_is_as_asked_with_the_polynomial_of_the_size(size: str, highest: float) -> None:
    cache = sampling(request(use_teacache=True, teacache_thresh=0.3, size=size), LARGE, settings()).teacache
    assert isinstance(cache, TeaCache)
    assert cache.threshold == 0.3
    assert cache.polynomial[0] == highest


def test_the_operator_may_skip_the_last_step_of_every_job() -> None:
    assert sampling(request(), MINIATURE, settings(SKIP_LAST_STEP="true")).skip_last_step


def test_adapters_go_by_the_operators_names_in_the_order_asked_for() -> None:
    farm = settings(LORAS="fast=/models/fast.safetensors, soft=/models/soft.safetensors")
    asked = request(lora=[{"name": "soft", "scale": 0.5}, {"name": "fast"}])
    files = ((Path("/models/soft.safetensors"), 0.5), (Path("/models/fast.safetensors"), 1.0))
    assert variant(asked, farm).adapters == files


@pytest.mark.parametrize(("known", "listed"), [("", "none"), ("soft=/s,fast=/f", "fast, soft")])
def test_an_unknown_adapter_is_refused_with_the_known_ones(known: str, listed: str) -> None:
    asked = request(lora=[{"name": "/etc/passwd"}])
    with pytest.raises(InvalidInput, match=rf"lora\.0\.name: got '/etc/passwd'; adapters of this farm: {listed}$"):
        variant(asked, settings(LORAS=known))


@pytest.mark.parametrize(
    ("asked", "farm", "scheme"),
    [
        ({}, {}, None),
        ({"quant": "int8"}, {}, "int8"),
        ({"quant": "fp8"}, {"QUANT_ACTIVATIONS": "true"}, "fp8-dynamic"),
        ({}, {"QUANT": "fp8"}, "fp8"),
        ({"quant": "int8"}, {"QUANT": "fp8"}, "int8"),
        ({}, {"QUANT_ACTIVATIONS": "true"}, None),
    ],
)
def test_weights_are_rounded_as_the_request_or_else_the_operator_says(
    asked: dict[str, Any], farm: dict[str, str], scheme: str | None
) -> None:
    assert variant(request(**asked), settings(**farm)).quant == scheme


@pytest.mark.parametrize(
    ("asked", "offload", "resident"),
    [
        ({}, "off", None),
        ({"offload_model": False}, "off", None),
        ({}, "allowed", None),
        ({"offload_model": True}, "allowed", 0),
        ({"num_persistent_param_in_dit": 7}, "allowed", 7),
        ({}, "on", 0),
        ({"offload_model": True, "num_persistent_param_in_dit": 7}, "on", 7),
    ],
)
def test_blocks_stream_where_the_operator_allows_it(asked: dict[str, Any], offload: str, resident: int | None) -> None:
    assert variant(request(**asked), settings(OFFLOAD=offload)).resident_parameters == resident


@pytest.mark.parametrize(
    ("asked", "offload", "reason"),
    [
        ({"offload_model": True}, "off", "offload_model: .*FARM_OFFLOAD is off"),
        ({"num_persistent_param_in_dit": 0}, "off", "num_persistent_param_in_dit: .*FARM_OFFLOAD is off"),
        ({"offload_model": False}, "on", "offload_model: got false.*FARM_OFFLOAD is on"),
        ({"offload_model": False, "num_persistent_param_in_dit": 0}, "allowed", "num_persistent_param_in_dit: got 0"),
    ],
)
def test_streaming_is_refused_elsewhere_with_the_reason(asked: dict[str, Any], offload: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        variant(request(**asked), settings(OFFLOAD=offload))


def test_the_result_tells_what_was_used_of_what_was_left_open() -> None:
    farm = settings(OFFLOAD="on", SKIP_LAST_STEP="true")
    used = used_parameters(request(), sampling(request(), LARGE, farm), farm, "native")
    assert used.pop("negative_prompt").startswith("bright tones")
    assert used == {
        "sample_shift": 7.0,
        "quant": None,
        "offload_model": True,
        "num_persistent_param_in_dit": 0,
        "skip_last_step": True,
        "attention": "native",
    }


@pytest.mark.parametrize("wrong", ["fast", "fast=", "=/models/fast.safetensors"])
def test_an_adapter_without_name_or_file_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidInput, match=r"FARM_LORAS: .*NAME=FILE"):
        settings(LORAS=wrong)
