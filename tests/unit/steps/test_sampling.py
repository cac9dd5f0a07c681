"""What a request asks of the model, and what the operator allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farm.errors import InvalidInput
from farm.model.caching import TeaCache
from farm.model.denoise import Sampling
from farm.model.guidance import Apg
from farm.model.variant import Variant
from farm.presets import QUALITIES
from farm.settings import Settings
from farm.steps.sampling import default_variant, sampling, used_parameters, variant
from tests.support.jobs import job_request as request


def settings(**variables: str) -> Settings:
    return Settings.load({f"FARM_{name}": value for name, value in variables.items()})


def drawn(**fields: Any) -> Sampling:
    """How the large model samples a request of these fields."""
    return sampling(request(model="infinitetalk-480", **fields), settings())


# Sampling


def test_a_plain_request_uses_the_defaults_and_the_plain_model() -> None:
    assert drawn() == Sampling()
    assert variant(request(), settings()) == default_variant(settings()) == Variant()


@pytest.mark.parametrize(("size", "shift"), [("infinitetalk-480", 7.0), ("infinitetalk-720", 11.0)])
def test_a_shift_that_is_left_open_is_the_models_for_the_size(size: str, shift: float) -> None:
    assert drawn(size=size).shift == shift
    assert drawn(size=size, sample_shift=2.0).shift == 2.0


def test_apg_has_the_parameters_of_the_request() -> None:
    wanted = {"use_apg": True, "apg_momentum": -0.5, "apg_norm_threshold": 12}
    assert drawn(**wanted).apg == Apg(momentum=-0.5, norm_threshold=12)


@pytest.mark.parametrize(
    ("size", "highest"), [("infinitetalk-480", 2.57151496e5), ("infinitetalk-720", 8.10705460e3)]
)
def test_teacache_has_the_threshold_of_the_request_and_the_polynomial_of_the_size(
    size: str, highest: float
) -> None:
    cache = drawn(use_teacache=True, teacache_thresh=0.3, size=size).teacache
    assert isinstance(cache, TeaCache)
    assert cache.threshold == 0.3
    assert cache.polynomial[0] == highest


def test_the_operator_may_skip_the_last_step_of_every_job_that_is_not_the_best() -> None:
    skipping = settings(SKIP_LAST_STEP="true")
    skips = {each: sampling(request(quality=each), skipping).skip_last_step for each in QUALITIES}
    assert skips == {"draft": True, "fast": True, "best": False}
    assert sampling(request(), skipping).skip_last_step


def test_a_sampler_whose_last_step_cannot_be_skipped_makes_it() -> None:
    flashtalk = request(model="miniature-flashtalk")
    assert not sampling(flashtalk, settings(SKIP_LAST_STEP="true")).skip_last_step


# Adapters


def test_adapters_are_those_of_the_operator_in_the_order_of_the_request() -> None:
    farm = settings(LORAS="fast=/models/fast.safetensors, soft=/models/soft.safetensors")
    wanted = request(lora=[{"name": "soft", "scale": 0.5}, {"name": "fast"}])
    soft = Path("/models/soft.safetensors")
    fast = Path("/models/fast.safetensors")
    assert variant(wanted, farm).adapters == ((soft, 0.5), (fast, 1.0))


@pytest.mark.parametrize(("known", "listed"), [("", "none"), ("soft=/s,fast=/f", "fast, soft")])
def test_an_unknown_adapter_is_refused_with_the_known_ones(known: str, listed: str) -> None:
    wanted = request(lora=[{"name": "/etc/passwd"}])
    message = rf"lora\.0\.name: got '/etc/passwd'; adapters of this farm: {listed}$"
    with pytest.raises(InvalidInput, match=message):
        variant(wanted, settings(LORAS=known))


@pytest.mark.parametrize("wrong", ["fast", "fast=", "=/models/fast.safetensors"])
def test_an_adapter_without_name_or_file_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidInput, match=r"FARM_LORAS: .*NAME=FILE"):
        settings(LORAS=wrong)


# Quantization and offloading


@pytest.mark.parametrize(
    ("fields", "variables", "scheme"),
    [
        ({}, {}, None),
        ({"quant": "int8"}, {}, "int8"),
        ({"quant": "fp8"}, {}, "fp8"),
        ({}, {"QUANT": "fp8"}, "fp8"),
        ({"quant": "int8"}, {"QUANT": "fp8"}, "int8"),
        ({"quant": "none"}, {"QUANT": "fp8"}, None),
        ({"quality": "best"}, {"QUANT": "fp8"}, None),
        ({"quality": "best", "quant": "int8"}, {}, "int8"),
    ],
)
def test_weights_are_quantized_as_the_request_or_else_the_operator_says(
    fields: dict[str, Any], variables: dict[str, str], scheme: str | None
) -> None:
    assert variant(request(**fields), settings(**variables)).quant == scheme


@pytest.mark.parametrize(
    ("fields", "offload", "resident"),
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
def test_blocks_are_offloaded_where_the_operator_allows_it(
    fields: dict[str, Any], offload: str, resident: int | None
) -> None:
    assert variant(request(**fields), settings(OFFLOAD=offload)).resident_parameters == resident


@pytest.mark.parametrize(
    ("fields", "offload", "reason"),
    [
        ({"offload_model": True}, "off", "offload_model: .*FARM_OFFLOAD is off"),
        (
            {"num_persistent_param_in_dit": 0},
            "off",
            "num_persistent_param_in_dit: .*FARM_OFFLOAD is off",
        ),
        ({"offload_model": False}, "on", "offload_model: got false.*FARM_OFFLOAD is on"),
        (
            {"offload_model": False, "num_persistent_param_in_dit": 0},
            "allowed",
            "num_persistent_param_in_dit: got 0",
        ),
    ],
)
def test_offloading_is_refused_elsewhere_with_the_reason(
    fields: dict[str, Any], offload: str, reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason):
        variant(request(**fields), settings(OFFLOAD=offload))


# The result


def test_parameters_that_were_left_open_are_reported_as_they_were_used() -> None:
    farm = settings(OFFLOAD="on", SKIP_LAST_STEP="true", FOLD_AUDIO="true")
    guided = request(model="infinitetalk-480")
    used = used_parameters(guided, sampling(guided, farm), farm, "native").model_dump()
    assert used.pop("negative_prompt").startswith("bright tones")
    assert used == {
        "sample_shift": 7.0,
        "quant": None,
        "offload_model": True,
        "num_persistent_param_in_dit": 0,
        "skip_last_step": True,
        "attention": "native",
        "fold_audio": True,
    }


def test_a_negative_prompt_of_the_request_is_reported_even_if_it_is_empty() -> None:
    wanted = request(model="infinitetalk-480", negative_prompt="")
    used = used_parameters(wanted, sampling(wanted, settings()), settings(), "native")
    assert used.negative_prompt == ""


def test_no_negative_prompt_is_reported_where_the_guidance_reads_none() -> None:
    wanted = request(negative_prompt="blurred", sample_text_guide_scale=1)
    used = used_parameters(wanted, sampling(wanted, settings()), settings(), "native")
    assert used.negative_prompt is None
