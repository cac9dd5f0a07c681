"""Attention kernels: by name, or the fastest exact one that the device really runs.

That a package imports says little: kernels refuse devices, dtypes and head sizes only when they are called. So a small
call decides.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    attention_backend,
    dispatch_attention_fn,
)
from torch import Tensor

from farm.errors import InvalidInput, PipelineLoadFailed, did_you_mean

AUTO = "auto"

EXACT = (
    "native",
    "_native_cudnn",
    "_native_flash",
    "_native_efficient",
    "flash",
    "_flash_3",
    "xformers",
)
"""What `auto` may choose from: neither those that round to eight bits nor those that download their kernel."""

TRIED_TOKENS = 64
TIMED_TOKENS = 8192
TIMED_CALLS = 3


def attend_with(transformer: Any, name: str, device: str) -> str:
    """Sets the kernel of all the transformer's attentions, and returns its name; raises what `chosen` does.

    Of this transformer alone: diffusers' own setter changes the default of the whole process as well.
    """
    config = transformer.config
    dtype = transformer.patch_embedding.weight.dtype
    kernel = chosen(
        name,
        device,
        dtype,
        heads=config.num_attention_heads,
        head_dim=config.attention_head_dim,
    )
    for processor in transformer.attn_processors.values():
        processor._attention_backend = AttentionBackendName(kernel)
    return kernel


def chosen(name: str, device: str, dtype: torch.dtype, *, heads: int, head_dim: int) -> str:
    """The backend of that name, or for `auto` the fastest of the exact ones, by diffusers' name for it.

    Raises InvalidInput for a name that is unknown, PipelineLoadFailed with the reason for one that does not work here.
    """
    tokens = _tokens(TRIED_TOKENS, device, dtype, heads, head_dim)
    if name == AUTO:
        able = [each for each in EXACT if fault(each, tokens) is None]
        return min(
            able,
            key=lambda each: _milliseconds(
                each, tokens.repeat(1, TIMED_TOKENS // TRIED_TOKENS, 1, 1)
            ),
        )
    known = [each.value for each in AttentionBackendName]
    if name not in known:
        allowed = ", ".join([AUTO, *known])
        hint = did_you_mean(name, known)
        raise InvalidInput(f"attention backend: got {name!r}; allowed: {allowed}{hint}")
    if reason := fault(name, tokens):
        raise PipelineLoadFailed(
            f"the attention backend {name!r} does not work on {device} in {dtype}: {reason}"
        )
    return name


def fault(name: str, tokens: Tensor) -> str | None:
    """Why a backend cannot attend from [1, L, heads, D] to a part of it, or None if it can."""
    few = tokens[:, : TRIED_TOKENS // 2]
    try:
        with attention_backend(name):
            answer = dispatch_attention_fn(tokens, few, few)
        wanted = dispatch_attention_fn(
            tokens.float(),
            few.float(),
            few.float(),
            backend=AttentionBackendName.NATIVE,
        )
    except Exception as error:  # whatever a kernel of somebody else's raises
        return f"{type(error).__name__}: {error}"
    off = float((answer.float() - wanted).norm() / wanted.norm())
    return None if off < 0.1 else f"its answer is {off:.0%} off"


def _tokens(length: int, device: str, dtype: torch.dtype, heads: int, head_dim: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, length, heads, head_dim, generator=generator).to(device, dtype)


def _milliseconds(name: str, tokens: Tensor) -> float:
    """What one call takes on a CUDA device; elsewhere 0, so that the first of `EXACT` wins."""
    if tokens.device.type != "cuda":
        return 0.0
    began = torch.cuda.Event(enable_timing=True)
    ended = torch.cuda.Event(enable_timing=True)
    with attention_backend(name):
        for call in range(2 * TIMED_CALLS):  # the first half warms up
            if call == TIMED_CALLS:
                began.record()
            dispatch_attention_fn(tokens, tokens, tokens)
        ended.record()
    torch.cuda.synchronize(tokens.device)
    return float(began.elapsed_time(ended)) / TIMED_CALLS
