"""Triton kernels, which only a GPU runs: what is read once where torch would read it many times."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096
"""Values that a program holds."""


@triton.jit
def _norm_silu(
    x,
    gamma,
    out,
    rows,
    scale,
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
    length = tl.sqrt(tl.sum(value * value, axis=1))
    weight = tl.load(gamma + channel, mask=is_channel, other=0.0).to(tl.float32)
    value = value / tl.maximum(length, 1e-12)[:, None] * scale * weight[None, :]
    value = value / (1.0 + tl.exp(-value))
    tl.store(out + at, value.to(out.dtype.element_ty), mask=inside)


def norm_silu(x: Tensor, gamma: Tensor, out: Tensor) -> None:
    """As `farm.model.vae_walk.norm_silu`, a video at a time: of several, `out` has gaps."""
    for video, written in zip(x, out, strict=True):
        channels = len(video)
        rows = video.numel() // channels
        width = triton.next_power_of_2(channels)
        rows_each = max(1, BLOCK // width)
        dense = video[None].contiguous(memory_format=torch.channels_last_3d)
        _norm_silu[triton.cdiv(rows, rows_each),](
            dense, gamma, written, rows, channels**0.5, channels, width, rows_each
        )
