"""The farm's workers, which write down what a gpu worker does between two of its computations.

This is where `celery -A benchmarks.idle_worker` finds its application, so importing it has an
effect: it wraps functions of this process, and draws thumbnails if IDLE_THUMBNAILS is set.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from celery.signals import task_postrun, task_prerun

import farm.engine.attempt as attempt
import farm.steps.generate as generate
from benchmarks.idle import COMPUTE, SPANS, THUMBNAILS
from benchmarks.thumbnail_sizes import use_thumbnails
from farm.engine.attempt import Attempt
from farm.engine.step_context import StepContext
from farm.media.encoder import Encoder
from farm.registry import Registry
from farm.registry.accounts import AccountRegistry
from farm.registry.steps import StepRegistry
from farm.route import Step
from farm.steps.progress import Progress
from farm.tasks.celery import app, settings

__all__ = ["app"]

_computing_since: list[float] = []


def _write(name: str, begin: float, end: float, *, chunk: int = 0) -> None:
    with (settings.folder / SPANS).open("a") as file:
        file.write(f"{name}|{os.getpid()}|{chunk}|{begin:.6f}|{end:.6f}\n")


def _timed(owner: Any, function: str, name: str) -> None:
    """Writes down each call of a function."""
    inner: Callable[..., Any] = getattr(owner, function)

    @wraps(inner)
    def outer(*args: Any, **kwargs: Any) -> Any:
        begin = time.time()
        try:
            return inner(*args, **kwargs)
        finally:
            _write(name, begin, time.time())

    setattr(owner, function, outer)


def _watch_model() -> None:
    """Writes down each computation: from the model's first report on a chunk to its last."""
    inner = Progress.report

    def report(self: Progress, stage: str, done: int, total: int) -> None:
        if stage == "pre":
            _computing_since[:] = [time.time()]
        if stage == "decode" and done == total:
            _write(COMPUTE, _computing_since[0], time.time(), chunk=self.ctx.step.chunk)
        return inner(self, stage, done, total)

    Progress.report = report  # type: ignore[method-assign]


def _watch_tasks() -> None:
    """Writes down what is between the attempts at two steps."""
    ended_at: dict[str, float] = {}

    @task_prerun.connect(weak=False)
    def _begin(**_: Any) -> None:
        if ended_at:
            _write("acknowledge, next message", ended_at["task"], time.time())

    @task_postrun.connect(weak=False)
    def _end(**_: Any) -> None:
        ended_at["task"] = time.time()
        _write("send the next message", ended_at["attempt"], ended_at["task"])

    inner = Attempt.run

    def run(self: Attempt) -> Step | None:
        try:
            return inner(self)
        finally:
            ended_at["attempt"] = time.time()

    Attempt.run = run  # type: ignore[method-assign]


for _owner, _function, _name in (
    (generate, "_pipeline_for", "model at hand"),
    (generate, "_inputs", "inputs"),
    (generate, "_previous_tail", "tail"),
    (Encoder, "finish", "encode"),
    (generate, "mux_segment", "mux"),
    (StepContext, "put", "store"),
    (StepContext, "put_output", "store the output"),
    (StepRegistry, "acquire", "acquire"),
    (AccountRegistry, "charge", "charge the caller"),
    (Registry, "commit", "commit"),
    (attempt, "publish", "playlist"),
):
    _timed(_owner, _function, _name)
_watch_model()
_watch_tasks()
if os.environ.get(THUMBNAILS):
    use_thumbnails()
