"""The blocks' linears in 8 bits: half of bfloat16's memory, and products of twice the speed.

    int8    weights int8 with a scale a row, their input int8 with a scale a token
    fp8     both float8 (e4m3) instead: coarser, but at ease with a few large values

A GPU that cannot multiply the format (float8 before compute capability 8.9) multiplies weights of
8 bits in the model's dtype; that saves memory, not time. A CPU rounds the same values and
multiplies in float32. Linears that read text, image or audio stay as they are: each runs once a
chunk, and rounding them would make half of the error. So do embedders and all that is float32.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from farm.errors import PipelineLoadFailed
from farm.model.fused import FORMATS, Rounded, Rounding, Tokens, has_kernels, round_rows

SCHEMES = tuple(FORMATS)

READS_CONDITIONS = (
    "attn2.to_k",
    "attn2.to_v",
    "attn2.add_k_proj",
    "attn2.add_v_proj",
    "attn_audio.to_kv",
)

LEAST_CAPABILITY: dict[Rounding, tuple[int, int]] = {"int8": (8, 0), "fp8": (8, 9)}
"""The compute capability that multiplies a format."""


class Linear8(nn.Linear):
    """A linear whose weight is 8 bits with a scale for each row (output)."""

    weight_scale: nn.Parameter
    """[out] float32"""

    @property
    def scheme(self) -> Rounding:
        """The format of the weight."""
        return "int8" if self.weight.dtype == torch.int8 else "fp8"

    @property
    def rounding(self) -> Rounding | None:
        """The format that the input is rounded to, None where the device cannot multiply it."""
        return self.scheme if multiplies(self.scheme, self.weight.device) else None

    def forward(self, x: Tokens) -> Tensor:
        """[..., in], in the model's dtype or rounded already, to [..., out]."""
        if isinstance(x, Rounded):
            return _product(x, self)
        if self.rounding:
            return _product(round_rows(x, self.rounding), self)
        return F.linear(x, self.dequantised(x.dtype), self.bias)

    def dequantised(self, dtype: torch.dtype) -> Tensor:
        """The weight [out, in] in another dtype."""
        return (self.weight.float() * self.weight_scale[:, None]).to(dtype)


def rounding_of(linear: nn.Module) -> Rounding | None:
    """The format in which a linear reads its input; None for the model's dtype."""
    return linear.rounding if isinstance(linear, Linear8) else None


def quantisable_weights(model: Any) -> list[str]:
    """The names of the weights that a scheme changes: those that the video's tokens go through.

    Projections that are folded into conditions (`farm.model.folding`) belong to these.
    """
    folded = tuple(
        path.removesuffix("processor")
        for path, processor in model.attn_processors.items()
        if getattr(processor, "is_folded", False)
    )
    return [
        f"{name}.weight"
        for name, module in model.named_modules()
        if name.startswith("blocks.")
        and isinstance(module, nn.Linear)
        and not name.endswith(READS_CONDITIONS)
        and not name.startswith(folded)
    ]


def with_weight(linear: nn.Linear, weight: Tensor, scheme: str | None) -> nn.Linear:
    """A linear with the bias of another and a weight [out, in], in 8 bits if there is a scheme."""
    cls = Linear8 if scheme else nn.Linear
    changed = cls(linear.in_features, linear.out_features, bias=False, device="meta")
    changed.bias = linear.bias
    if scheme:
        weight, scales, _ = round_rows(weight.float(), cast(Rounding, scheme))
        changed.weight_scale = nn.Parameter(scales, requires_grad=False)
    changed.weight = nn.Parameter(weight, requires_grad=False)
    return changed


@cache
def multiplies(scheme: Rounding, device: torch.device) -> bool:
    """Whether the device has products of the format; a CPU computes the same in float32."""
    if device.type != "cuda":
        return True
    return torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY[scheme]


def quick_scheme(device: str) -> Rounding | None:
    """The most exact format that is quicker on a device than the model's own; None if none is."""
    found = torch.device(device)
    is_quick = found.type == "cuda" and has_kernels() and multiplies("int8", found)
    return "int8" if is_quick else None


def check_scheme(scheme: str, device: str, dtype: torch.dtype) -> None:
    """Tries the scheme on the device; PipelineLoadFailed says why it does not work there."""
    if scheme not in SCHEMES:
        raise PipelineLoadFailed(f"quant: got {scheme!r}; allowed: {', '.join(SCHEMES)}")
    try:
        linear = nn.Linear(64, 64, device=device, dtype=dtype)
        quantised = with_weight(linear, linear.weight.detach(), scheme)
        with torch.inference_mode():
            quantised(torch.ones(1, 32, 64, device=device, dtype=dtype))
    except RuntimeError as error:  # NotImplementedError is one of them
        raise PipelineLoadFailed(f"quant {scheme!r} does not work on {device}: {error}") from error


def _product(x: Rounded, linear: Linear8) -> Tensor:
    """The product [..., out] of rounded tokens and a rounded weight, plus the bias."""
    values = x.values.flatten(0, -2)
    scales = x.scales.flatten()
    weight, bias = linear.weight, linear.bias
    if weight.is_cuda and linear.scheme == "fp8" and x.dtype == torch.bfloat16:
        product = torch._scaled_mm(
            values,
            weight.t(),
            scale_a=scales[:, None],
            scale_b=linear.weight_scale[None],
            bias=bias,
            out_dtype=x.dtype,
            use_fast_accum=True,
        )
    elif weight.is_cuda and linear.scheme == "int8" and has_kernels():
        from farm.model import kernels

        product = kernels.product_int8(values, scales, weight, linear.weight_scale, bias, x.dtype)
    else:
        sums = F.linear(values.float(), weight.float())
        product = (sums * scales[:, None] * linear.weight_scale + bias).to(x.dtype)
    return product.unflatten(0, x.values.shape[:-1])
