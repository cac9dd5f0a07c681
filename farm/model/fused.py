"""What stands between the transformer's products: sums, norms, rotations, GELU, rounding.

In plain torch each of them reads and writes the tokens several times, which is a fifth of a pass;
a GPU has a kernel for each (`farm.model.kernels`) that reads once. Both compute in float32 and
round once, to the tokens' dtype or to 8 bits for `farm.model.linear8`.

Shapes: B batch, L tokens, C width, D channels of a head. Tokens are [B, L, C].
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from farm.logs import log

Rounding = Literal["int8", "fp8"]

FORMATS: dict[Rounding, tuple[torch.dtype, int]] = {
    "int8": (torch.int8, 127),
    "fp8": (torch.float8_e4m3fn, 448),
}
"""The dtype of each 8-bit format and the value that the largest of a row becomes."""


class Rounded(NamedTuple):
    """Tokens in 8 bits: `values` times `scales`."""

    values: Tensor
    """[..., C] int8 or float8"""
    scales: Tensor
    """[...] float32, one a token"""
    dtype: torch.dtype
    """Of the tokens before, and of a product with them."""


Tokens = Tensor | Rounded


@cache
def has_kernels() -> bool:
    """Whether Triton can build kernels here; it needs a C compiler for that."""
    x = torch.ones(1, 2, 1, 1, 1, device="cuda")
    try:
        from farm.model import vae_kernels

        vae_kernels.norm_silu(x, torch.ones(2, device="cuda"), None, out=torch.empty_like(x))
    except Exception as error:  # Triton and the compiler may raise anything
        log("kernels_unavailable", level=logging.WARNING, reason=f"{type(error).__name__}: {error}")
        return False
    return True


def takes_kernels(x: Tensor) -> bool:
    """Whether kernels compute with this tensor; they know no gradients."""
    return x.is_cuda and not torch.is_grad_enabled() and has_kernels()


def add_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    eps: float,
    added: Tensor | None = None,
    gate: Tensor | None = None,
    rounding: Rounding | None = None,
) -> tuple[Tensor, Tokens]:
    """`x + gate added` in the dtype of x, and its layer norm times `weight` plus `bias`.

    `gate`, `weight` and `bias` are [C], or [B, 1, C] in float32.
    """
    if takes_kernels(x):
        from farm.model import kernels

        out, scales, largest = _empty(x, rounding)
        total = kernels.add_norm(x, added, gate, weight, bias, eps, out, scales, largest)
        return total, out if scales is None else Rounded(out, scales, x.dtype)
    if added is not None:
        x = x + added if gate is None else add_gated(x, added, gate)
    normed = F.layer_norm(x.float(), x.shape[-1:], eps=eps) * weight + bias
    return x, _rounded(normed, x.dtype, rounding)


def add_gated(x: Tensor, added: Tensor, gate: Tensor) -> Tensor:
    """`x + gate added` in the dtype of x; the gate [B, 1, C] is float32."""
    if takes_kernels(x):
        from farm.model import kernels

        return kernels.add_gated(x, added, gate)
    return (x.float() + added * gate).type_as(x)


def norm_rope(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    weight: Tensor | None = None,
    eps: float = 0.0,
) -> Tensor:
    """Tokens whose pairs of channels (2i, 2i + 1) are rotated, after a root mean square norm over
    all heads if there is a `weight` [C].

    `cos` and `sin` are [1 or B, L, D / 2] in float32, the same for all heads.
    """
    if takes_kernels(x):
        from farm.model import kernels

        return kernels.norm_rope(x, weight, cos, sin, eps)
    if weight is not None:
        x = F.rms_norm(x, x.shape[-1:], weight, eps)
    heads = x.unflatten(-1, (-1, cos.shape[-1], 2))
    even, odd = heads.unbind(-1)
    cos, sin = cos[:, :, None], sin[:, :, None]
    rotated = torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1)
    return rotated.flatten(2).type_as(x)


def linear_gelu(x: Tokens, linear: nn.Linear, rounding: Rounding | None = None) -> Tokens:
    """A linear, then GELU in its approximation by tanh."""
    if rounding is None and isinstance(x, Tensor) and takes_kernels(x):
        # cuBLAS applies both to its sums before they are rounded.
        rows = x.flatten(0, -2)
        product = torch._addmm_activation(linear.bias, rows, linear.weight.t(), use_gelu=True)
        return product.unflatten(0, x.shape[:-1])
    return gelu(linear(x), rounding)


def gelu(x: Tensor, rounding: Rounding | None = None) -> Tokens:
    """GELU in its approximation by tanh."""
    if rounding and takes_kernels(x):
        return _rounded_by_kernel(x, rounding, gelu=True)
    return _rounded(F.gelu(x, approximate="tanh"), x.dtype, rounding)


def round_rows(x: Tensor, rounding: Rounding) -> Rounded:
    """Tokens in 8 bits, each with a scale by which its largest value becomes the format's."""
    if takes_kernels(x):
        return _rounded_by_kernel(x, rounding, gelu=False)
    dtype, largest = FORMATS[rounding]
    scales = x.abs().amax(-1).float().clamp(min=1e-12) / largest
    values = x / scales[..., None]
    if rounding == "int8":
        values = values.round()
    return Rounded(values.to(dtype), scales, x.dtype)


def scale_columns(
    x: Tensor,
    factor: Tensor,
    offset: Tensor,
    *,
    dtype: torch.dtype,
    rounding: Rounding | None = None,
) -> Tokens:
    """`x factor + offset` in `dtype`, or rounded from it; both are [C] in float32."""
    if takes_kernels(x):
        from farm.model import kernels

        out, scales, largest = _empty(x, rounding, dtype)
        kernels.scale_columns(x, factor, offset, out, scales, largest)
        return out if scales is None else Rounded(out, scales, dtype)
    return _rounded(x.float() * factor + offset, dtype, rounding)


def _rounded(x: Tensor, dtype: torch.dtype, rounding: Rounding | None) -> Tokens:
    x = x.to(dtype)
    return round_rows(x, rounding) if rounding else x


def _rounded_by_kernel(x: Tensor, rounding: Rounding, *, gelu: bool) -> Rounded:
    from farm.model import kernels

    dtype, largest = FORMATS[rounding]
    x = x.contiguous()
    out = torch.empty_like(x, dtype=dtype)
    scales = x.new_empty(x.shape[:-1], dtype=torch.float32)
    kernels.round_rows(x, out, scales, largest, gelu=gelu)
    return Rounded(out, scales, x.dtype)


def _empty(
    x: Tensor, rounding: Rounding | None, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor | None, int]:
    """What a kernel writes: values, scales if they are rounded, and the format's largest value."""
    if rounding is None:
        return torch.empty_like(x, dtype=dtype or x.dtype), None, 0
    eight, largest = FORMATS[rounding]
    scales = x.new_empty(x.shape[:-1], dtype=torch.float32)
    return torch.empty_like(x, dtype=eight), scales, largest
