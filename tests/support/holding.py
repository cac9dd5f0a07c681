"""Steps that wait at a stage until a test lets them go on.

A test that kills a worker in the middle of a chunk holds the chunk there, so it does not depend on
how fast the machine is. Test and workers are different processes; a file tells the workers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from farm import Farm, Job
from farm.engine.step_context import StepContext
from farm.registry.outputs import StepOutput
from farm.route import StepKind
from farm.settings import Settings
from tests.support.waiting import wait_for_stage

StepFunction = Callable[[StepContext], StepOutput]

POLL_INTERVAL_S = 0.01


@contextmanager
def hold(settings: Settings, stage: str) -> Iterator[Callable[[], None]]:
    """Lets every step wait once it has reported a stage, until the block ends.

    Yields a function that lets them go on earlier.
    """
    file = _file(settings, stage)
    file.parent.mkdir(exist_ok=True)
    file.touch()

    def release() -> None:
        file.unlink(missing_ok=True)

    try:
        yield release
    finally:
        release()


@contextmanager
def job_held_at(stage: str, farm: Farm, fields: dict[str, Any]) -> Iterator[Job]:
    """Submits a job; yields it once it waits at a stage, where it is held until the block ends."""
    with hold(farm.context.settings, stage):
        job = farm.submit(fields)
        wait_for_stage(job, stage)
        yield job


def holdable(
    step_function: Callable[[StepKind], StepFunction],
) -> Callable[[StepKind], StepFunction]:
    """The same step functions, in steps that can be held."""

    def holdable_function(kind: StepKind) -> StepFunction:
        def run(ctx: StepContext) -> StepOutput:
            values = {field.name: getattr(ctx, field.name) for field in fields(ctx)}
            if begun := ctx.step.spec.first_stage:  # reported with its lease
                _wait_while_held(ctx.settings, begun)
            return step_function(kind)(_holdable_context(type(ctx))(**values))

        return run

    return holdable_function


@cache
def _holdable_context(kind: type[StepContext]) -> type[StepContext]:
    class HoldableContext(kind):  # type: ignore[valid-type, misc]
        def report(self, stage: str, pct: float | None = None, **details: Any) -> None:
            super().report(stage, pct, **details)
            _wait_while_held(self.settings, stage)

    return HoldableContext


def _wait_while_held(settings: Settings, stage: str) -> None:
    while _file(settings, stage).exists():
        time.sleep(POLL_INTERVAL_S)


def _file(settings: Settings, stage: str) -> Path:
    return settings.folder / "held" / stage
