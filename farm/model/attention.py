"""Attention kernels: by name, or the fastest exact one that runs on the device.

A package that can be imported need not work: kernels refuse devices, dtypes and head sizes only
when they are called. So every candidate is tried with a small call.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    dispatch_attention_fn,
)
from torch import Tensor

from farm.errors import InvalidInput, PipelineLoadFailed, did_you_mean
from farm.model.attention_kernels import CUDNN_FP8, FLASH_4, attend_fp8, flash_4

AUTO = "auto"
NATIVE = AttentionBackendName.NATIVE.value

EXACT = (
    NATIVE,
    FLASH_4,
    "_native_cudnn",
    "_native_flash",
    "_native_efficient",
    "flash",
    "_flash_3",
    "xformers",
)
"""The candidates of `auto`: none that quantises or downloads its kernel."""

OWN = (FLASH_4, CUDNN_FP8)
"""Kernels of `farm.model.attention_kernels`; text, image and audio are attended to by `native`."""

TRIED_TOKENS = 64
TIMED_TOKENS = 8192
TIMED_CALLS = 3

LARGEST_ERROR = 0.1
"""Relative to float32; a kernel in bfloat16 is off by about 0.01, a broken one by about 1."""


def attend(query: Tensor, key: Tensor, value: Tensor, kernel: str | None) -> Tensor:
    """The attention [B, L, heads, D] by a kernel, None for diffusers' own choice."""
    if kernel == FLASH_4:
        return flash_4(query, key, value)
    if kernel == CUDNN_FP8:
        output = attend_fp8(query, key, value)
        return cast(Tensor, output).unflatten(-1, query.shape[2:])
    return dispatch_attention_fn(query, key, value, backend=kernel)


def exact(kernel: str | None) -> str | None:
    """The kernel, or `native` in place of one that rounds to 8 bits."""
    return AttentionBackendName.NATIVE if kernel == CUDNN_FP8 else kernel


def set_attention_backend(transformer: Any, name: str, device: str) -> str:
    """Sets the kernel of the transformer's attentions and returns its name.

    Only this transformer changes; diffusers' own setter changes the default of the process as well.
    Raises as `select_backend`.
    """
    config = transformer.config
    kernel = select_backend(
        name,
        device,
        transformer.patch_embedding.weight.dtype,
        heads=config.num_attention_heads,
        head_dim=config.attention_head_dim,
    )
    others = NATIVE if kernel in OWN else kernel
    for path, processor in transformer.attn_processors.items():
        of_video = path.endswith("attn1.processor")
        processor._attention_backend = _backend(kernel if of_video else others)
    return kernel


def select_backend(name: str, device: str, dtype: torch.dtype, *, heads: int, head_dim: int) -> str:
    """The backend of that name or, for `auto`, the name of the fastest exact one.

    Raises InvalidInput for an unknown name, PipelineLoadFailed with the reason for a backend that
    does not work here.
    """
    tokens = _random_tokens(TRIED_TOKENS, device, dtype, heads, head_dim)
    if name == AUTO:
        return _fastest(tokens)
    _check_name(name)
    fault = backend_fault(name, tokens)
    if fault:
        raise PipelineLoadFailed(
            f"the attention backend {name!r} does not work on {device} in {dtype}: {fault}"
        )
    return name


def backend_fault(name: str, tokens: Tensor) -> str | None:
    """Why a backend cannot attend from [1, L, heads, D] to a part of it, or None if it can."""
    few = tokens[:, : TRIED_TOKENS // 2]
    try:
        output = attend(tokens, few, few, _backend(name))
        few = few.float()
        expected = attend(tokens.float(), few, few, AttentionBackendName.NATIVE)
    except Exception as error:  # kernels of other packages may raise anything
        return f"{type(error).__name__}: {error}"
    relative_error = float((output.float() - expected).norm() / expected.norm())
    if relative_error < LARGEST_ERROR:
        return None
    return f"its output differs from float32 by {relative_error:.0%}"


def _backend(name: str) -> str:
    """As `attend` takes it."""
    return name if name in OWN else AttentionBackendName(name)


def _check_name(name: str) -> None:
    known = [*OWN, *(each.value for each in AttentionBackendName)]
    if name in known:
        return
    allowed = ", ".join([AUTO, *known])
    hint = did_you_mean(name, known)
    raise InvalidInput(f"attention backend: got {name!r}; allowed: {allowed}{hint}")


def _fastest(tokens: Tensor) -> str:
    """The fastest exact backend that works.

    Without CUDA nothing is timed and the first one wins.
    """
    working = [name for name in EXACT if backend_fault(name, tokens) is None]
    if tokens.device.type != "cuda":
        return working[0]
    many = tokens.repeat(1, TIMED_TOKENS // TRIED_TOKENS, 1, 1)
    return min(working, key=lambda name: _call_ms(name, many))


def _random_tokens(
    length: int, device: str, dtype: torch.dtype, heads: int, head_dim: int
) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, length, heads, head_dim, generator=generator).to(device, dtype)


def _call_ms(name: str, tokens: Tensor) -> float:
    """The milliseconds of one call on a CUDA device."""
    began = torch.cuda.Event(enable_timing=True)
    ended = torch.cuda.Event(enable_timing=True)
    for call in range(2 * TIMED_CALLS):
        if call == TIMED_CALLS:  # the first half warms up
            began.record()
        attend(tokens, tokens, tokens, _backend(name))
    ended.record()
    torch.cuda.synchronize(tokens.device)
    return float(began.elapsed_time(ended)) / TIMED_CALLS
