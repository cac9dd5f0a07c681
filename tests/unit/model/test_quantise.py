"""The blocks' linears quantised: how far the prediction moves, and what a device refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from farm.errors import PipelineLoadFailed
from farm.model.checkpoints import load_part
from farm.model.fused import round_rows
from farm.model.quantise import (
    SCHEMES,
    Linear8,
    check_scheme,
    quick_scheme,
    rounding_of,
    with_weight,
)
from farm.model.variant import Variant, Variants
from farm.model.weights.tensorfile import part_tensors
from tests.unit.model.test_precision import predicted


@pytest.fixture(scope="module")
def exact(weights: Path) -> Tensor:
    return predicted(load_part(weights, "transformer", dtype="float32"))


@pytest.mark.parametrize(
    ("scheme", "dtype", "bound"),
    [
        (None, "bfloat16", 0.02),
        ("int8", "float32", 0.04),
        ("fp8", "float32", 0.09),
        ("int8", "bfloat16", 0.05),
        ("fp8", "bfloat16", 0.09),
    ],
)
def test_the_prediction_stays_near_the_exact_one(
    weights: Path, exact: Tensor, scheme: str | None, dtype: str, bound: float
) -> None:
    model = load_part(weights, "transformer", dtype=dtype)
    Variants(model, part_tensors(weights, "transformer"), "cpu").switch(Variant(quant=scheme))
    prediction = predicted(model)
    error = float((prediction - exact).norm() / exact.norm())
    print(f"{scheme} {dtype}: {error:.2e}")
    assert prediction.dtype == torch.float32
    assert 1e-4 < error < bound


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_product_equals_that_of_the_rounded_numbers(scheme: str) -> None:
    x = torch.randn(2, 5, 32)
    linear = nn.Linear(32, 16)
    quantised = with_weight(linear, linear.weight.detach(), scheme)
    values, scales, _ = round_rows(x, quantised.scheme)
    weight = quantised.weight.double() * quantised.weight_scale[:, None]
    expected = (values.double() * scales[..., None]) @ weight.T + linear.bias
    for given in (x, round_rows(x, quantised.scheme)):
        torch.testing.assert_close(quantised(given).double(), expected, rtol=1e-5, atol=1e-5)
    assert quantised.weight.element_size() == 1
    assert quantised.bias is linear.bias


def test_no_format_is_quicker_on_a_cpu() -> None:
    assert quick_scheme("cpu") is None


@pytest.mark.parametrize(("kernels", "capability"), [(True, True), (False, True), (True, False)])
def test_int8_is_quicker_where_the_gpu_multiplies_it_by_our_kernel(
    monkeypatch: pytest.MonkeyPatch, kernels: bool, capability: bool
) -> None:
    monkeypatch.setattr("farm.model.quantise.has_kernels", lambda: kernels)
    monkeypatch.setattr("farm.model.quantise.multiplies", lambda *_: capability)
    assert quick_scheme("cuda") == ("int8" if kernels and capability else None)


def test_a_device_without_products_of_a_format_multiplies_in_the_models_dtype(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("farm.model.quantise.multiplies", lambda *_: False)
    x = torch.randn(2, 5, 32)
    linear = nn.Linear(32, 16)
    quantised = with_weight(linear, linear.weight.detach(), "fp8")
    assert rounding_of(quantised) is None
    expected = nn.functional.linear(x, quantised.dequantised(x.dtype), linear.bias)
    assert torch.equal(quantised(x), expected)


def test_a_scheme_that_a_device_refuses_is_refused_before_anything_changes(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise NotImplementedError("no kernel for this device")

    monkeypatch.setattr("farm.model.quantise.round_rows", refused)
    model = load_part(weights, "transformer", dtype="float32")
    variants = Variants(model, part_tensors(weights, "transformer"), "cpu")
    with pytest.raises(PipelineLoadFailed, match="quant 'fp8' does not work on cpu: no kernel"):
        variants.switch(Variant(quant="fp8"))
    assert not any(isinstance(each, Linear8) for each in model.modules())


def test_an_unknown_scheme_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PipelineLoadFailed, match=r"quant: got 'int4'; allowed: int8, fp8$"):
        check_scheme("int4", "cpu", torch.float32)
