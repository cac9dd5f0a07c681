"""What stands between the products, each by its definition; on a GPU by its kernel as well."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from farm.model.fused import (
    FORMATS,
    Rounded,
    Rounding,
    add_gated,
    add_norm,
    gelu,
    norm_rope,
    round_rows,
    scale_columns,
)

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
DTYPES = [torch.float32, torch.bfloat16]
BATCH, TOKENS, WIDTH = 2, 7, 96

pytestmark = [
    pytest.mark.parametrize("device", DEVICES),
    pytest.mark.parametrize("dtype", DTYPES, ids=str),
]


@pytest.fixture(autouse=True)
def inference() -> object:
    with torch.inference_mode():
        yield


def drawn(seed: int, *shape: int, device: str, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


def tokens(seed: int, device: str, dtype: torch.dtype) -> Tensor:
    return drawn(seed, BATCH, TOKENS, WIDTH, device=device, dtype=dtype)


def near(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert actual.dtype == dtype
    one_rounding = 1e-5 if dtype == torch.float32 else 1 / 128
    torch.testing.assert_close(
        actual.double(), expected.double(), rtol=one_rounding, atol=one_rounding
    )


def layer_norm(x: Tensor) -> Tensor:
    x = x.double()
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()


@pytest.mark.parametrize("per_item", [True, False])
def test_a_sum_is_gated_then_normalised_then_modulated(
    device: str, dtype: torch.dtype, per_item: bool
) -> None:
    x, added = tokens(0, device, dtype), tokens(1, device, dtype)
    shape = (BATCH, 1, WIDTH) if per_item else (WIDTH,)
    gate = drawn(2, BATCH, 1, WIDTH, device=device)
    weight, bias = (drawn(seed, *shape, device=device) for seed in (3, 4))
    total, normed = add_norm(x, weight, bias, eps=1e-6, added=added, gate=gate)
    near(total, x.double() + added.double() * gate.double(), dtype)
    near(normed, layer_norm(total) * weight.double() + bias.double(), dtype)


def test_nothing_added_leaves_the_tokens_as_they_are(device: str, dtype: torch.dtype) -> None:
    x = tokens(0, device, dtype)
    weight, bias = (drawn(seed, WIDTH, device=device) for seed in (3, 4))
    total, normed = add_norm(x, weight, bias, eps=1e-6)
    assert total is x
    near(normed, layer_norm(x) * weight.double() + bias.double(), dtype)


def test_a_gate_multiplies_what_is_added(device: str, dtype: torch.dtype) -> None:
    x, added = tokens(0, device, dtype), tokens(1, device, dtype)
    gate = drawn(2, BATCH, 1, WIDTH, device=device)
    near(add_gated(x, added, gate), x.double() + added.double() * gate.double(), dtype)


def test_pairs_are_rotated_after_a_norm_over_all_heads(device: str, dtype: torch.dtype) -> None:
    x = tokens(0, device, dtype)
    angles = drawn(1, 1, TOKENS, 16, device=device)
    weight = drawn(2, WIDTH, device=device, dtype=dtype)
    rotated = norm_rope(x, angles.cos(), angles.sin(), weight=weight, eps=1e-6)
    scale = (x.double().square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    pairs = torch.view_as_complex((x.double() * scale * weight.double()).unflatten(-1, (3, 16, 2)))
    turned = pairs * torch.polar(torch.ones_like(angles), angles)[:, :, None]
    expected = torch.view_as_real(turned).flatten(2)
    error = (rotated.double() - expected).norm() / expected.norm()
    assert error < (1e-6 if dtype == torch.float32 else 5e-3)
    assert rotated.dtype == dtype


@pytest.mark.parametrize("rounding", FORMATS)
def test_a_row_is_rounded_with_a_scale_of_its_own(
    device: str, dtype: torch.dtype, rounding: Rounding
) -> None:
    x = tokens(0, device, dtype) * torch.logspace(-3, 3, TOKENS, device=device)[:, None].to(dtype)
    rounded = round_rows(x, rounding)
    eight, largest = FORMATS[rounding]
    assert rounded.values.dtype == eight
    assert rounded.dtype == dtype
    assert (rounded.values.float().abs().amax(-1) == largest).all()
    step = 0.5 if rounding == "int8" else largest / 16  # half a step of the format at its largest
    error = (rounded.values.float() * rounded.scales[..., None] - x.float()).abs()
    assert (error <= 1.01 * step * rounded.scales[..., None]).all()


@pytest.mark.parametrize("rounding", FORMATS)
def test_rounding_behind_another_operation_equals_rounding_after_it(
    device: str, dtype: torch.dtype, rounding: Rounding
) -> None:
    x = tokens(0, device, dtype)
    weight, bias = (drawn(seed, WIDTH, device=device) for seed in (3, 4))
    pairs = [
        (
            add_norm(x, weight, bias, eps=1e-6, rounding=rounding)[1],
            add_norm(x, weight, bias, eps=1e-6)[1],
        ),
        (gelu(x, rounding), gelu(x)),
        (
            scale_columns(x, weight, bias, dtype=dtype, rounding=rounding),
            scale_columns(x, weight, bias, dtype=dtype),
        ),
    ]
    for rounded, exact in pairs:
        assert isinstance(rounded, Rounded)
        assert isinstance(exact, Tensor)
        restored = rounded.values.double() * rounded.scales.double()[..., None]
        error = (restored - exact.double()).norm() / exact.double().norm()
        assert error < (0.01 if rounding == "int8" else 0.04)
