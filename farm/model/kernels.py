"""Triton kernels, which only a GPU runs: what is read once where torch would read it many times.

`farm.model.fused`, `vae_walk` and `block_attention` say what each computes. Sums run over a row
within one program, in an order that is always the same.
"""

from __future__ import annotations

from math import log2

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

BLOCK = 4096
"""Values that a program holds of short rows."""

ROW = {"num_warps": 4}

LOG2_E = 1.4426950408889634

TILE = 128
"""Rows of a tile of a product, and the values of a row that are multiplied at a time."""


@triton.jit
def _norm_silu(
    x,
    gamma,
    bias,
    out,
    rows,
    scale,
    has_bias: tl.constexpr,
    channels: tl.constexpr,
    width: tl.constexpr,
    rows_each: tl.constexpr,
):
    """Rows of `channels` values, padded to `width`, a power of two; `rows_each` a program."""
    row = tl.program_id(0).to(tl.int64) * rows_each + tl.arange(0, rows_each)
    channel = tl.arange(0, width)
    is_channel = channel < channels
    inside = (row < rows)[:, None] & is_channel[None, :]
    at = row[:, None] * channels + channel[None, :]
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if has_bias:
        value += tl.load(bias + channel, mask=is_channel, other=0.0).to(tl.float32)[None, :]
    length = tl.sqrt(tl.sum(value * value, axis=1))
    weight = tl.load(gamma + channel, mask=is_channel, other=0.0).to(tl.float32)
    value = value / tl.maximum(length, 1e-12)[:, None] * scale * weight[None, :]
    value = value / (1.0 + tl.exp(-value))
    tl.store(out + at, value.to(out.dtype.element_ty), mask=inside)


def norm_silu(x: Tensor, gamma: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """As `farm.model.vae_walk.norm_silu`, a video at a time: of several, `out` has gaps."""
    for video, written in zip(_videos(x), out, strict=True):
        channels, rows, width, rows_each = _short_rows(video)
        _norm_silu[triton.cdiv(rows, rows_each),](
            video,
            gamma,
            video if bias is None else bias,
            written,
            rows,
            channels**0.5,
            bias is not None,
            channels,
            width,
            rows_each,
        )


def _videos(x: Tensor) -> list[Tensor]:
    """Each [C, F, H, W] of a batch, with channels last and no gaps."""
    return [video[None].contiguous(memory_format=torch.channels_last_3d)[0] for video in x]


def _short_rows(video: Tensor) -> tuple[int, int, int, int]:
    """Channels, how many rows of them, their width, and how many a program takes."""
    channels = len(video)
    width = triton.next_power_of_2(channels)
    return channels, video.numel() // channels, width, max(1, BLOCK // width)


@triton.jit
def _add_biased(
    x,
    bias,
    added,
    out,
    rows,
    channels: tl.constexpr,
    width: tl.constexpr,
    rows_each: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * rows_each + tl.arange(0, rows_each)
    channel = tl.arange(0, width)
    is_channel = channel < channels
    inside = (row < rows)[:, None] & is_channel[None, :]
    at = row[:, None] * channels + channel[None, :]
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(bias + channel, mask=is_channel, other=0.0).to(tl.float32)[None, :]
    value += tl.load(added + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=inside)


def add_biased(x: Tensor, bias: Tensor, added: Tensor) -> Tensor:
    """As `farm.model.vae_walk.add_biased`."""
    out = torch.empty_like(x, memory_format=torch.channels_last_3d)
    for video, other, written in zip(_videos(x), _videos(added), out, strict=True):
        channels, rows, width, rows_each = _short_rows(video)
        _add_biased[triton.cdiv(rows, rows_each),](
            video, bias, other, written, rows, channels, width, rows_each
        )
    return out


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


@triton.jit
def _attend_few(
    query,
    keys,
    values,
    count,
    of_last,
    head_at,
    stride,
    scale,
    dim: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_keys: tl.constexpr,
):
    """The attention of a tile of queries to one set of keys; logits are in powers of 2, and that of
    the last key is higher by `of_last`.
    """
    channel = tl.arange(0, dim)
    highest = tl.full([tile_rows], float("-inf"), tl.float32)
    total = tl.zeros([tile_rows], tl.float32)
    out = tl.zeros([tile_rows, dim], tl.float32)
    for first in range(0, count, tile_keys):
        index = first + tl.arange(0, tile_keys)
        inside = index < count
        at = index[:, None] * stride + head_at + channel[None, :]
        key = tl.load(keys + at, mask=inside[:, None], other=0.0)
        logits = tl.dot(query, key.T, input_precision="ieee") * scale
        logits += tl.where(index == count - 1, of_last, 0.0)[None, :]
        logits = tl.where(inside[None, :], logits, float("-inf"))
        higher = tl.maximum(highest, tl.max(logits, 1))
        weights = tl.exp2(logits - higher[:, None])
        shrunk = tl.exp2(highest - higher)
        total = total * shrunk + tl.sum(weights, 1)
        value = tl.load(values + at, mask=inside[:, None], other=0.0)
        weights = weights.to(value.dtype)
        out = tl.dot(weights, value, out * shrunk[:, None], input_precision="ieee")
        highest = higher
    return out / total[:, None]


@triton.jit
def _attend_context(
    query,
    text_keys,
    text_values,
    text_count,
    text_of_last,
    image_keys,
    image_values,
    image_count,
    out,
    rows,
    scale,
    heads: tl.constexpr,
    dim: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_keys: tl.constexpr,
):
    """A tile of the queries of one head of one item."""
    stride = heads * dim
    head_at = tl.program_id(1) * dim
    item = tl.program_id(2).to(tl.int64)
    row = tl.program_id(0) * tile_rows + tl.arange(0, tile_rows)
    inside = (row < rows)[:, None]
    at = (item * rows + row.to(tl.int64))[:, None] * stride + head_at + tl.arange(0, dim)[None, :]
    tile = tl.load(query + at, mask=inside, other=0.0)
    text_at = item * text_count * stride
    image_at = item * image_count * stride
    attended = _attend_few(
        tile,
        text_keys + text_at,
        text_values + text_at,
        text_count,
        text_of_last,
        head_at,
        stride,
        scale,
        dim,
        tile_rows,
        tile_keys,
    )
    attended += _attend_few(
        tile,
        image_keys + image_at,
        image_values + image_at,
        image_count,
        0.0,
        head_at,
        stride,
        scale,
        dim,
        tile_rows,
        tile_keys,
    )
    tl.store(out + at, attended.to(out.dtype.element_ty), mask=inside)


def attend_context(
    query: Tensor, text: tuple[Tensor, Tensor], text_repeats: int, image: tuple[Tensor, Tensor]
) -> Tensor:
    """As `farm.model.block_attention.attend_context`."""
    batch, rows, heads, dim = query.shape
    query = query.contiguous()
    out = torch.empty_like(query)
    tile_rows, tile_keys = 64, 64
    _attend_context[triton.cdiv(rows, tile_rows), heads, batch](
        query,
        *(each.contiguous() for each in text),
        text[0].shape[1],
        log2(text_repeats),
        *(each.contiguous() for each in image),
        image[0].shape[1],
        out,
        rows,
        dim**-0.5 * LOG2_E,
        heads,
        dim,
        tile_rows,
        tile_keys,
        num_warps=4,
    )
    return out
