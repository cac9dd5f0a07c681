"""Attention kernels: by name, or the fastest exact one that runs on the device.

A package that can be imported need not work: kernels refuse devices, dtypes and head sizes only
when they are called. So every candidate is tried with a small call, and what was the fastest on a
device is remembered until a package changes.
"""

from __future__ import annotations

import json
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    dispatch_attention_fn,
)
from torch import Tensor

from farm.errors import InvalidInput, PipelineLoadFailed, did_you_mean
from farm.logs import log
from farm.model.attention_kernels import CUDNN_FP8, FLASH_4, attend_fp8, flash_4
from farm.model.weights.folder import write_atomically

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

PACKAGES = (
    "torch",
    "diffusers",
    "xformers",
    "flash-attn",
    "flash-attn-3",
    "flash-attn-4",
    "nvidia-cudnn-frontend",
)
"""Packages of kernels: with another version of one, all are tried again."""

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


def set_attention_backend(
    transformer: Any, name: str, device: str, memory: Path | None = None
) -> str:
    """Sets the kernel of the transformer's attentions and returns its name.

    Only this transformer changes; diffusers' own setter changes the default of the process as well.
    `memory` and errors as of `select_backend`.
    """
    config = transformer.config
    kernel = select_backend(
        name,
        device,
        transformer.patch_embedding.weight.dtype,
        heads=config.num_attention_heads,
        head_dim=config.attention_head_dim,
        memory=memory,
    )
    others = NATIVE if kernel in OWN else kernel
    for path, processor in transformer.attn_processors.items():
        of_video = path.endswith("attn1.processor")
        processor._attention_backend = _backend(kernel if of_video else others)
    return kernel


def select_backend(
    name: str,
    device: str,
    dtype: torch.dtype,
    *,
    heads: int,
    head_dim: int,
    memory: Path | None = None,
) -> str:
    """The backend of that name or, for `auto`, the name of the fastest exact one.

    `memory` is a file in which the fastest is remembered. Raises InvalidInput for an unknown name,
    PipelineLoadFailed with the reason for a backend that does not work here.
    """
    tokens = random_tokens(device, dtype, heads, head_dim)
    if name == AUTO:
        return _remembered_fastest(tokens, memory)
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


def random_tokens(device: str, dtype: torch.dtype, heads: int, head_dim: int) -> Tensor:
    """What backends are tried with, [1, L, heads, D]."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, TRIED_TOKENS, heads, head_dim, generator=generator).to(device, dtype)


def _remembered_fastest(tokens: Tensor, memory: Path | None) -> str:
    """The fastest exact backend that works, from the file if it was tried before.

    Without CUDA nothing is timed and the first one wins.
    """
    if tokens.device.type != "cuda":
        return _working(tokens)[0]
    situation = _situation(tokens)
    known = _read(memory)
    if known.get(situation) in EXACT:
        return known[situation]
    many = tokens.repeat(1, TIMED_TOKENS // TRIED_TOKENS, 1, 1)
    times_ms = {name: round(_call_ms(name, many), 2) for name in _working(tokens)}
    fastest = min(times_ms, key=times_ms.__getitem__)
    log("attention_tried", fastest=fastest, times_ms=times_ms)
    if memory:
        with suppress(OSError):  # then they are tried again
            memory.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(memory, json.dumps({**known, situation: fastest}, indent=1))
    return fastest


def _read(memory: Path | None) -> dict[str, str]:
    """The fastest backends by situation, as far as the file can be read."""
    with suppress(OSError, ValueError):
        found = json.loads(memory.read_text()) if memory else None
        if isinstance(found, dict):
            return found
    return {}


def _working(tokens: Tensor) -> list[str]:
    return [name for name in EXACT if backend_fault(name, tokens) is None]


def _situation(tokens: Tensor) -> str:
    """All that decides which backend is the fastest."""
    device = torch.cuda.get_device_name(tokens.device)
    words = [device, str(tokens.dtype), *map(str, tokens.shape[2:])]
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            words.append(f"{package} {version(package)}")
    return ", ".join(words)


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
