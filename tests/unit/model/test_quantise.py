"""The blocks' linears quantised: how far the prediction moves, and what a device refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from farm.errors import InvalidInput, PipelineLoadFailed
from farm.model.checkpoints import load_part
from farm.model.quantise import check_scheme
from farm.model.variant import Variant, Variants
from farm.model.weights.tensorfile import part_tensors
from tests.unit.model.test_precision import predicted


@pytest.fixture(scope="module")
def exact(weights: Path) -> Tensor:
    return predicted(load_part(weights, "transformer", dtype="float32"))


BOUNDS = [
    (None, "bfloat16", 0.02),
    ("int8", "float32", 0.02),
    ("int8-dynamic", "float32", 0.04),
]
BOUNDS += [
    ("fp8", "float32", 0.06),
    ("int8", "bfloat16", 0.03),
    ("fp8", "bfloat16", 0.06),
]


@pytest.mark.parametrize(("scheme", "dtype", "bound"), BOUNDS)
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


def test_quantised_blocks_are_not_streamed() -> None:
    with pytest.raises(InvalidInput, match="quant or offload_model, not both"):
        Variant(quant="int8", resident_parameters=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU may be able to")
def test_an_unsupported_scheme_is_refused_before_anything_changes(
    weights: Path,
) -> None:
    model = load_part(weights, "transformer", dtype="float32")
    variants = Variants(model, part_tensors(weights, "transformer"), "cpu")
    with pytest.raises(
        PipelineLoadFailed,
        match=r"quant 'fp8-dynamic' does not work on cpu: .*capability",
    ):
        variants.switch(Variant(quant="fp8-dynamic"))
    assert {type(each) for each in model.parameters()} == {torch.nn.Parameter}


def test_an_unknown_scheme_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        PipelineLoadFailed,
        match="quant: got 'int4'; allowed: int8, int8-dynamic, fp8",
    ):
        check_scheme("int4", "cpu", torch.float32)


def test_a_missing_library_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(
        PipelineLoadFailed,
        match=r"needs torchao: pip install 'infinitetalk-farm\[quant\]'",
    ):
        check_scheme("int8", "cpu", torch.float16)
