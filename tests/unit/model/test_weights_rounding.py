from __future__ import annotations

from collections.abc import Callable

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from torch import Tensor

from farm.model.weights.gguf_file import BLOCKS
from farm.model.weights.quanto import ROUNDINGS
from farm.model.weights.rounding import DTYPES, ERRORS, cost, roundings
from farm.model.weights.scaled import FLOAT8
from farm.model.weights.tensorfile import TensorInfo

WEIGHTS = 0.03 * torch.randn(256, 2560, generator=torch.Generator().manual_seed(0))


def through_gguf(kind: Kind) -> Tensor:
    return torch.from_numpy(gguf.dequantize(gguf.quantize(WEIGHTS.numpy(), kind), kind))


def scaled(dtype: torch.dtype, largest: float) -> Tensor:
    scale = WEIGHTS.abs().amax(1, keepdim=True) / largest
    data = WEIGHTS / scale
    return (data.round() if dtype == torch.int8 else data).to(dtype).float() * scale


ROUND: dict[str, Callable[[], Tensor]] = {
    "float16": lambda: WEIGHTS.half().float(),
    "bfloat16": lambda: WEIGHTS.bfloat16().float(),
    "fp8 e4m3": lambda: WEIGHTS.to(torch.float8_e4m3fn).float(),
    "fp8 e5m2": lambda: WEIGHTS.to(torch.float8_e5m2).float(),
    "fp8 e4m3 with scales": lambda: scaled(torch.float8_e4m3fn, 448),
    "fp8 e5m2 with scales": lambda: scaled(torch.float8_e5m2, 57344),
    "int8 of quanto": lambda: scaled(torch.int8, 127),
    **{
        kind.name: lambda kind=kind: through_gguf(kind)
        for kind in (Kind.Q8_0, Kind.Q5_1, Kind.Q5_0, Kind.Q4_1, Kind.Q4_0)
    },
}


@pytest.mark.parametrize("name", ROUND)
def test_the_error_of_a_rounding_is_that_of_normal_weights(name: str) -> None:
    error = float((ROUND[name]() - WEIGHTS).norm() / WEIGHTS.norm())
    assert error == pytest.approx(ERRORS[name], rel=0.15)


def test_every_rounding_that_is_read_has_an_error() -> None:
    scaled_names = [f"{name} with scales" for name in FLOAT8.values()]
    names = {*(name for name, _, _ in BLOCKS.values()), *ROUNDINGS.values(), *scaled_names}
    assert names < ERRORS.keys()
    assert {*DTYPES.values()} - ERRORS.keys() == {"float32", "float64"}


def info(count: int, dtype: torch.dtype, rounding: str = "") -> TensorInfo:
    return TensorInfo(torch.Size([count]), dtype, rounding=rounding)


def test_a_cost_is_that_of_all_tensors_together() -> None:
    half = [
        (info(100, torch.float32, "Q4_K"), torch.bfloat16),
        (info(300, torch.bfloat16), torch.bfloat16),
    ]
    assert cost(half) == "Q4_K, about 3.9 %"
    assert cost([*half, (info(400, torch.float32, "Q5_K"), torch.bfloat16)]) == (
        "Q4_K and Q5_K, about 3.9 %"
    )


@pytest.mark.parametrize(
    ("source", "stored"),
    [
        (torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.bfloat16),
        (torch.float16, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.float64, torch.float32),
        (torch.int64, torch.int64),
    ],
)
def test_what_is_stored_as_exactly_costs_nothing(source: torch.dtype, stored: torch.dtype) -> None:
    assert cost([(info(10, source), stored)]) is None


def test_nothing_costs_nothing() -> None:
    assert cost([]) is None
    assert roundings([]) == ""


def test_roundings_are_named_by_their_share_and_small_ones_left_out() -> None:
    infos = [
        info(50, torch.bfloat16),
        info(900, torch.float32, "Q8_0"),
        info(5, torch.float32),
    ]
    assert roundings(infos) == "Q8_0, bfloat16"
