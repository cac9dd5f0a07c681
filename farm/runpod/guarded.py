"""Steps whose process may die: each attempt leaves a mark in the store until it has ended.

The registry of a serverless worker dies with it, and so does its count of attempts. What remains
is the marks: a step whose attempts keep killing their workers is given up, on any worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from farm.engine.step_context import StepContext, StepFunction, WorkerDraining
from farm.errors import FarmError, WorkerLost
from farm.registry.outputs import StepOutput
from farm.runpod.turn import GpuTurn
from farm.store import keys

MARK = "begun"


def guarded(function: StepFunction, gpu: GpuTurn) -> StepFunction:
    """The same step: one on the GPU at a time, counted, and no end of its process."""

    def run(ctx: StepContext) -> StepOutput:
        with _marked(ctx), _no_exit(ctx):
            if ctx.step.spec.queue != "gpu":
                return function(ctx)
            with gpu.wait(ctx.raise_if_stopped):
                return function(ctx)

    return run


@contextmanager
def _marked(ctx: StepContext) -> Iterator[None]:
    """Marks the attempt while the block runs; raises WorkerLost if too many were lost already."""
    lost = _lost_attempts(ctx)
    if lost >= ctx.settings.max_attempts:
        raise WorkerLost(
            f"{ctx.step.id}: none of {lost} attempts committed, and the last one lost its worker"
        )
    mark = keys.attempt(ctx.job_id, ctx.step.id, ctx.lease.attempt_id, MARK)
    ctx.store.put(mark, b"")
    try:
        yield
    finally:
        with suppress(FarmError):  # the store is away: this attempt counts as a lost one
            ctx.store.delete(mark)


def _lost_attempts(ctx: StepContext) -> int:
    """The attempts at this step that began and did not end."""
    folder = f"{keys.job(ctx.job_id)}{ctx.step.id}/"
    return sum(key.endswith(f"/{MARK}") for key in ctx.store.keys(folder))


@contextmanager
def _no_exit(ctx: StepContext) -> Iterator[None]:
    """Turns what would end the process, such as SystemExit, into a failure of the step."""
    try:
        yield
    except (Exception, WorkerDraining):
        raise
    except BaseException as error:
        message = f"{ctx.step.id}: {type(error).__name__}: {error}"
        raise ctx.step.spec.failure(message, retryable=False) from error
