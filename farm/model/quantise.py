"""The blocks' linears quantised to 8 bits: half of bfloat16's memory.

Products are faster too where the activations are quantised as well:

    int8            weights int8, one scale per row
    int8-dynamic    and activations int8, one scale per token
    fp8             weights float8, one scale per row
    fp8-dynamic     and activations float8, one scale per token; compute capability 8.9 or later

Embedders, the audio projector and everything in float32 stay as they are.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from farm.errors import PipelineLoadFailed

SCHEMES = ("int8", "int8-dynamic", "fp8", "fp8-dynamic")


def quantisable_weights(model: nn.Module) -> list[str]:
    """The names of the weights that a scheme changes: those of all linears in `blocks`."""
    return [
        f"{name}.weight"
        for name, module in model.named_modules()
        if name.startswith("blocks.") and isinstance(module, nn.Linear)
    ]


def quantise(weight: Tensor, scheme: str) -> Tensor:
    """A linear's weight [out, in] under a scheme, on its device, for the same operations."""
    from torchao.quantization import quantize_

    # Inside a temporary linear, because torchao changes modules, not tensors.
    outputs, inputs = weight.shape
    linear = nn.Linear(inputs, outputs, bias=False, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    quantize_(linear, _torchao_config(scheme))
    return linear.weight


@cache
def check_scheme(scheme: str, device: str, dtype: torch.dtype) -> None:
    """Tries the scheme on the device; PipelineLoadFailed says why it does not work there."""
    try:
        weight = quantise(torch.ones(64, 64, device=device, dtype=dtype), scheme)
        nn.functional.linear(torch.ones(1, 32, 64, device=device, dtype=dtype), weight)
    except ImportError as error:
        raise PipelineLoadFailed(
            f"quant {scheme!r} needs torchao: pip install 'infinitetalk-farm[quant]'"
        ) from error
    except (
        AssertionError,
        RuntimeError,
        NotImplementedError,
        ValueError,
    ) as error:
        raise PipelineLoadFailed(f"quant {scheme!r} does not work on {device}: {error}") from error


def _torchao_config(scheme: str) -> Any:
    from torchao import quantization as torchao

    match scheme:
        case "int8":
            return torchao.Int8WeightOnlyConfig()
        case "int8-dynamic":
            return torchao.Int8DynamicActivationInt8WeightConfig()
        case "fp8":
            return torchao.Float8WeightOnlyConfig()
        case "fp8-dynamic":
            return torchao.Float8DynamicActivationFloat8WeightConfig(granularity=torchao.PerRow())
    raise PipelineLoadFailed(f"quant: got {scheme!r}; allowed: {', '.join(SCHEMES)}")
