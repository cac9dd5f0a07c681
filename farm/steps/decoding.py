"""Decoding of what came from outside, by a step: in the sandbox, within the operator's limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from farm.engine.step_context import StepContext
from farm.media import sandbox
from farm.steps.cpu_turn import in_turn

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def sandboxed(
    ctx: StepContext, function: Callable[Arguments, Answer]
) -> Callable[Arguments, Answer]:
    """A function of farm.media.decoder, to be called with keywords; see farm.media.sandbox."""
    settings = ctx.settings
    limits = sandbox.SandboxLimits(
        seconds=settings.decode_timeout_s, memory_bytes=settings.decode_memory_mb * 1_000_000
    )
    return in_turn(ctx, sandbox.sandboxed(function, limits=limits, check=ctx.raise_if_stopped))
