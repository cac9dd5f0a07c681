"""The Triton kernel of attention to text and image, which only a GPU runs."""

from __future__ import annotations

from math import log2

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2_E = 1.4426950408889634


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
