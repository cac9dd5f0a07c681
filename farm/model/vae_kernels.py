"""Triton kernels of the autoencoder's walk, which only a GPU runs.

`farm.model.vae_walk` says what each computes.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096
"""Values that a program holds of short rows."""


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
