"""The farm's workers with nothing to do: its own tasks over four steps that only say that they are done, and four empty
tasks beside them on the same queues.

This is where `celery -A benchmarks.hollow` finds its application, so importing it does something: it puts these steps
where `farm.engine.attempt` looks for the real ones. When each `generate` begins and each `mux` is done
goes into `notes`, for both kinds in the same way.
"""

from __future__ import annotations

import sys
import time
from types import ModuleType
from typing import Any

from celery import Task
from celery.signals import task_postrun, task_prerun

from benchmarks.chain import EMPTY, notes
from farm.engine.step_context import StepContext
from farm.job import Result
from tasks.celery import app, settings

STAGES = {
    "download": ("validation_started", "validation_ok", "downloads_started", "downloads_ok"),
    "embed": ("embeddings_started", "embeddings_ok"),
    "generate": ("pipeline_warm_started", "pipeline_warm_ok", "generation_started"),
    "mux": ("muxing_started", "muxing_ok", "upload_started", "upload_ok"),
}
"""What a station tells of itself; what the model tells while it samples is left out with the model."""

OUTPUT: dict[str, dict[str, Any]] = {
    "download": {},
    "embed": {"chunks": 1},
    "generate": {"links": {"init": "init.mp4", "segment": "segment.m4s"}, "frames": 81},
    "mux": {"result": Result(job_id="hollow", status="success").model_dump(mode="json")},
}
"""The least that later steps and the playlist read."""


def hollow(ctx: StepContext) -> dict[str, Any]:
    """A step's stages and goods without its work."""
    for stage in STAGES[ctx.step.kind]:
        ctx.report(stage)
    return OUTPUT[ctx.step.kind]


def empty(job_id: str) -> None:
    """Does nothing at all."""


@task_prerun.connect
def _begins(task: Task, args: tuple[Any, ...], **_: Any) -> None:
    if task.name.endswith(".generate"):
        _note("generate", args[0])


@task_postrun.connect
def _is_done(task: Task, args: tuple[Any, ...], **_: Any) -> None:
    if task.name.endswith(".mux"):
        _note("mux", args[0])


def _note(kind: str, job_id: str) -> None:
    with notes(settings).open("a") as file:
        file.write(f"{kind} {job_id} {time.time()}\n")


for _station in STAGES:
    _step = ModuleType(f"farm.steps.{_station}")
    setattr(_step, _station, hollow)
    setattr(_step, "warm_pipeline", lambda settings: None)  # noqa: B010  # what a gpu worker's child asks for
    sys.modules[_step.__name__] = _step
    app.task(empty, name=EMPTY + _station)
