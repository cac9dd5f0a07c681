"""What it costs that weights are rounded in the file they come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import prod, sqrt

import torch

from farm.model.weights.tensorfile import TensorInfo

DTYPES = {
    torch.float64: "float64",
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float8_e4m3fn: "fp8 e4m3",
    torch.float8_e5m2: "fp8 e5m2",
}

ERRORS = {
    "float16": 0.0002,
    "bfloat16": 0.0017,
    "Q8_0": 0.0054,
    "int8 of quanto": 0.0088,
    "Q6_K": 0.019,
    "fp8 e4m3 of quanto": 0.026,
    "fp8 e4m3 with scales": 0.026,
    "fp8 e4m3": 0.03,
    "Q5_K": 0.038,
    "Q5_1": 0.038,
    "Q5_0": 0.043,
    "fp8 e5m2 of quanto": 0.053,
    "fp8 e5m2 with scales": 0.053,
    "fp8 e5m2": 0.053,
    "Q4_K": 0.078,
    "Q4_1": 0.078,
    "Q4_0": 0.086,
    "Q3_K": 0.16,
    "Q2_K": 0.33,
}
"""The relative error of weights with a normal distribution, by how they are stored.

It is the norm of the difference over the norm of the weights. docs/lab-log.md has how it was
measured.
"""

NEGLIGIBLE = 0.001
"""Half of what rounding to bfloat16 costs."""


def name_of(info: TensorInfo) -> str:
    """How the values of a tensor are stored."""
    return info.rounding or DTYPES.get(info.dtype, str(info.dtype).removeprefix("torch."))


def roundings(infos: Iterable[TensorInfo]) -> str:
    """How most values of some tensors are stored, the commonest first; each has 2 % or more."""
    weights: Counter[str] = Counter()
    for info in infos:
        weights[name_of(info)] += prod(info.shape)
    return ", ".join(name for name, count in weights.most_common() if count * 50 >= weights.total())


def cost(tensors: Iterable[tuple[TensorInfo, torch.dtype]]) -> str | None:
    """What the rounding of published tensors costs beyond that of the dtypes they are stored in.

    As a phrase, `Q8_0, about 0.5 %`, with what makes a tenth of it or more; None if it is
    negligible.
    """
    squares: Counter[str] = Counter()
    total = 0
    for info, stored in tensors:
        count = prod(info.shape)
        total += count
        error = ERRORS.get(name_of(info), 0.0)
        if error > ERRORS.get(DTYPES.get(stored, ""), 0.0):
            squares[name_of(info)] += count * error**2  # type: ignore[assignment]
    error = sqrt(squares.total() / total) if total else 0.0
    if error < NEGLIGIBLE:
        return None
    names = [name for name, square in squares.most_common() if square * 10 >= squares.total()]
    return f"{' and '.join(names)}, about {error:.1%}".replace("%", " %")
