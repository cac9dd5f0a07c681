"""Triton kernels of tokens, which only a GPU runs: what torch would read many times is read once.

`farm.model.fused` says what each computes. Sums run over a row within one program, in an order that
is always the same.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

ROW = {"num_warps": 4}

TILE = 128
"""Rows of a tile of a product, and the values of a row that are multiplied at a time."""


@triton.jit
def _store_row(
    value, row, column, inside, out, scales, channels: tl.constexpr, largest: tl.constexpr
):
    """One row; rounded to 8 bits with a scale of its own if there is a `largest` value."""
    if largest:
        scale = tl.maximum(tl.max(tl.abs(value), 0), 1e-12) / largest
        tl.store(scales + row, scale)
        value = value / scale
        if largest == 127:  # of int8
            value = tl.floor(value + 0.5)
    tl.store(out + row * channels + column, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _add_norm(
    x,
    added,
    gate,
    weight,
    bias,
    total,
    out,
    scales,
    tokens,
    gate_stride,
    weight_stride,
    eps,
    has_added: tl.constexpr,
    has_gate: tl.constexpr,
    channels: tl.constexpr,
    largest: tl.constexpr,
    width: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    item = row // tokens
    column = tl.arange(0, width)
    inside = column < channels
    at = row * channels + column
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if has_added:
        change = tl.load(added + at, mask=inside, other=0.0).to(tl.float32)
        if has_gate:
            change *= tl.load(gate + item * gate_stride + column, mask=inside, other=0.0)
        rounded = (value + change).to(total.dtype.element_ty)
        tl.store(total + at, rounded, mask=inside)
        value = rounded.to(tl.float32)
    value = tl.where(inside, value - tl.sum(value, 0) / channels, 0.0)
    value *= tl.rsqrt(tl.sum(value * value, 0) / channels + eps)
    at_item = item * weight_stride + column
    value *= tl.load(weight + at_item, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(bias + at_item, mask=inside, other=0.0).to(tl.float32)
    _store_row(value, row, column, inside, out, scales, channels, largest)


def add_norm(
    x: Tensor,
    added: Tensor | None,
    gate: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    out: Tensor,
    scales: Tensor | None,
    largest: int,
) -> Tensor:
    """As `farm.model.fused.add_norm`; returns the sum."""
    channels = x.shape[-1]
    rows = x.numel() // channels
    total = x if added is None else torch.empty_like(x)
    _add_norm[rows,](
        x,
        x if added is None else added,
        x if gate is None else gate,
        weight,
        bias,
        total,
        out,
        scales,
        x.shape[1],
        _item_stride(gate, channels),
        _item_stride(weight, channels),
        eps,
        added is not None,
        gate is not None,
        channels,
        largest,
        triton.next_power_of_2(channels),
        **ROW,
    )
    return total


def _item_stride(modulation: Tensor | None, channels: int) -> int:
    """From an item's modulation to that of the next; 0 for one that all of them share."""
    return 0 if modulation is None or modulation.numel() == channels else channels


@triton.jit
def _add_gated(x, added, gate, out, tokens, channels: tl.constexpr, width: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, width)
    inside = column < channels
    at = row * channels + column
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    change = tl.load(added + at, mask=inside, other=0.0).to(tl.float32)
    change *= tl.load(gate + row // tokens * channels + column, mask=inside, other=0.0)
    tl.store(out + at, (value + change).to(out.dtype.element_ty), mask=inside)


def add_gated(x: Tensor, added: Tensor, gate: Tensor) -> Tensor:
    """As `farm.model.fused.add_gated`."""
    channels = x.shape[-1]
    out = torch.empty_like(x)
    width = triton.next_power_of_2(channels)
    _add_gated[x.numel() // channels,](x, added, gate, out, x.shape[1], channels, width, **ROW)
    return out


@triton.jit
def _round_rows(
    x,
    out,
    scales,
    is_gelu: tl.constexpr,
    channels: tl.constexpr,
    largest: tl.constexpr,
    width: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, width)
    inside = column < channels
    value = tl.load(x + row * channels + column, mask=inside, other=0.0).to(tl.float32)
    if is_gelu:  # with tanh, which is a sigmoid of twice its argument
        inner = 1.5957691216057308 * (value + 0.044715 * value * value * value)
        value = value / (1.0 + tl.exp(-inner))
    _store_row(value, row, column, inside, out, scales, channels, largest)


def round_rows(x: Tensor, out: Tensor, scales: Tensor, largest: int, *, gelu: bool) -> None:
    """As `farm.model.fused.round_rows`, after GELU if asked."""
    channels = x.shape[-1]
    width = triton.next_power_of_2(channels)
    warps = 4 if width <= 8192 else 8
    _round_rows[x.numel() // channels,](
        x, out, scales, gelu, channels, largest, width, num_warps=warps
    )


@triton.jit
def _norm_rope(
    x,
    weight,
    cos,
    sin,
    out,
    angle_rows,
    eps,
    is_norm: tl.constexpr,
    channels: tl.constexpr,
    angles: tl.constexpr,
    width: tl.constexpr,
):
    """A row of all heads; `angles` a head, half of its channels."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, width)
    inside = column < channels
    value = tl.load(x + row * channels + column, mask=inside, other=0.0).to(tl.float32)
    if is_norm:
        value *= tl.rsqrt(tl.sum(value * value, 0) / channels + eps)
        value *= tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    even, odd = tl.split(tl.reshape(value, [width // 2, 2]))
    angle = row % angle_rows * angles + tl.arange(0, width // 2) % angles
    c = tl.load(cos + angle)
    s = tl.load(sin + angle)
    pairs = tl.join(even * c - odd * s, even * s + odd * c)
    value = tl.reshape(pairs, [width])
    tl.store(out + row * channels + column, value.to(out.dtype.element_ty), mask=inside)


def norm_rope(
    x: Tensor,
    weight: Tensor | None,
    cos: Tensor,
    sin: Tensor,
    eps: float,
) -> Tensor:
    """As `farm.model.fused.norm_rope`."""
    channels = x.shape[-1]
    rows = x.numel() // channels
    out = torch.empty_like(x)
    angles = cos.shape[-1]
    _norm_rope[rows,](
        x,
        x if weight is None else weight,
        cos,
        sin,
        out,
        cos.numel() // angles,
        eps,
        weight is not None,
        channels,
        angles,
        triton.next_power_of_2(channels),
        **ROW,
    )
    return out


@triton.jit
def _scale_columns(
    x,
    factor,
    offset,
    out,
    scales,
    channels: tl.constexpr,
    largest: tl.constexpr,
    width: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, width)
    inside = column < channels
    value = tl.load(x + row * channels + column, mask=inside, other=0.0).to(tl.float32)
    value *= tl.load(factor + column, mask=inside, other=0.0)
    value += tl.load(offset + column, mask=inside, other=0.0)
    _store_row(value, row, column, inside, out, scales, channels, largest)


def scale_columns(
    x: Tensor, factor: Tensor, offset: Tensor, out: Tensor, scales: Tensor | None, largest: int
) -> None:
    """As `farm.model.fused.scale_columns`."""
    channels = x.shape[-1]
    width = triton.next_power_of_2(channels)
    _scale_columns[x.numel() // channels,](
        x, factor, offset, out, scales, channels, largest, width, **ROW
    )


@triton.jit
def _product_int8(
    a,
    b,
    a_scales,
    b_scales,
    bias,
    out,
    rows,
    columns,
    depth: tl.constexpr,
    band: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
    tile_depth: tl.constexpr,
):
    """A tile of the product; tiles go down in bands, so that neighbours read the same weights."""
    program = tl.program_id(0)
    tiles_down = tl.cdiv(rows, tile_rows)
    tiles_across = tl.cdiv(columns, tile_columns)
    first_down = program // (band * tiles_across) * band
    band_height = min(tiles_down - first_down, band)
    within = program % (band * tiles_across)
    first_row = (first_down + within % band_height) * tile_rows
    first_column = within // band_height * tile_columns
    total = tl.zeros([tile_rows, tile_columns], tl.int32)
    for k in range(0, depth, tile_depth):
        left, right = a.load([first_row, k]), b.load([first_column, k])
        total = tl.dot(left, right.T, total, out_dtype=tl.int32)
    row = first_row + tl.arange(0, tile_rows)
    column = first_column + tl.arange(0, tile_columns)
    is_row = row < rows
    is_column = column < columns
    value = total.to(tl.float32) * tl.load(a_scales + row, mask=is_row, other=0.0)[:, None]
    value *= tl.load(b_scales + column, mask=is_column, other=0.0)[None, :]
    value += tl.load(bias + column, mask=is_column, other=0.0).to(tl.float32)[None, :]
    at = row[:, None].to(tl.int64) * columns + column[None, :]
    tl.store(out + at, value.to(out.dtype.element_ty), mask=is_row[:, None] & is_column[None, :])


def product_int8(
    a: Tensor, a_scales: Tensor, b: Tensor, b_scales: Tensor, bias: Tensor, dtype: torch.dtype
) -> Tensor:
    """The product [rows, columns] of int8 [rows, depth] and [columns, depth] in their scales.

    The bias is added. Sums are integers, so the tiles' sizes change no bit of it.
    """
    rows, depth = a.shape
    columns = len(b)
    out = torch.empty(rows, columns, device=a.device, dtype=dtype)
    tile_columns, stages = 128, 2
    if torch.cuda.get_device_capability(a.device)[0] in (9, 10):  # 227 KB of shared memory
        tile_columns, stages = 256, 4
    tiles = triton.cdiv(rows, TILE) * triton.cdiv(columns, tile_columns)
    _product_int8[tiles,](
        TensorDescriptor.from_tensor(a, [TILE, TILE]),
        TensorDescriptor.from_tensor(b, [tile_columns, TILE]),
        a_scales,
        b_scales,
        bias,
        out,
        rows,
        columns,
        depth,
        band=8,
        tile_rows=TILE,
        tile_columns=tile_columns,
        tile_depth=TILE,
        num_stages=stages,
        num_warps=8,
    )
    return out
