"""The farm's workers with nothing to do: its own tasks over four steps that only report that they
are done, and four no-op tasks beside them on the same queues.

This is where `celery -A benchmarks.noop` finds its application, so importing it has an effect: it
replaces the step functions of this process. When each `generate` begins and each `mux` is done goes
into the file `timestamps`, for both kinds of job in the same way.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from celery import Task
from celery.signals import task_postrun, task_prerun

from benchmarks.chain import NOOP, STEP_KINDS, timestamps_path
from farm.engine.step_context import StepContext, StepFunction
from farm.job import Result
from farm.registry.outputs import (
    ChunkOutput,
    DownloadOutput,
    EmbedOutput,
    MuxOutput,
    SegmentLinks,
    StepOutput,
)
from farm.route import StepKind
from farm.steps import generate
from farm.tasks import base
from farm.tasks.celery import app, settings

__all__ = ["app"]

STAGES: dict[StepKind, tuple[str, ...]] = {
    "download": ("validation_ok", "downloads_started", "downloads_ok"),
    "embed": ("embeddings_ok",),
    "generate": ("pipeline_warm_started", "pipeline_warm_ok", "generation_started"),
    "mux": ("muxing_ok", "upload_started", "upload_ok"),
}
"""The stages that a step reports by itself, behind its first; those that the model reports are left
out with it.
"""

FOLLOWED = (
    *("validation_ok", "pipeline_warm_started", "pipeline_warm_ok", "muxing_ok"),
    *("downloads_ok", "embeddings_ok", "upload_ok"),
)
"""Those that are sent with the next one, or with the output; the model counts as loaded."""

OUTPUTS: dict[StepKind, StepOutput] = {
    "download": DownloadOutput(
        visual_kind="image",
        visual_key="",
        visual_scale=1.0,
        visual_seconds=None,
        audio_keys=(),
        warnings=(),
    ),
    "embed": EmbedOutput(
        embedding_prefixes=(),
        rows=0,
        audio_key="",
        aac_keys=(),
        frames=81,
        chunks=1,
        cuts=(),
        source_keys=(),
        source_scale=1.0,
        weights="",
        warnings=(),
    ),
    "generate": ChunkOutput(
        init_key="",
        segment_key="",
        links=SegmentLinks(init="init.mp4", segment="segment.m4s"),
        frames=81,
        condition_key=None,
        tail_key=None,
        weights="",
    ),
    "mux": MuxOutput(result=Result(job_id="noop", status="success"), video_key=""),
}
"""The least that later steps and the playlist read."""


def noop_step(ctx: StepContext) -> StepOutput:
    """The stages and the output of a step without its work."""
    for stage in STAGES[ctx.step.kind]:
        ctx.report(stage, another_follows=stage in FOLLOWED)
    return OUTPUTS[ctx.step.kind]


def noop_step_function(kind: StepKind) -> StepFunction:
    return noop_step


def noop_task(job_id: str) -> None:
    """Does nothing at all."""


@task_prerun.connect
def _record_generate(task: Task, args: tuple[Any, ...], **_: Any) -> None:
    if task.name.endswith(".generate"):
        _record("generate", args[0])


@task_postrun.connect
def _record_mux(task: Task, args: tuple[Any, ...], **_: Any) -> None:
    if task.name.endswith(".mux"):
        _record("mux", args[0])


def _record(kind: str, job_id: str) -> None:
    with timestamps_path(settings).open("a") as file:
        file.write(f"{kind} {job_id} {time.time()}\n")


generate.warm_pipeline = lambda *_: None  # no step needs the model
base.hooks = replace(base.hooks, step_function=noop_step_function)
for _kind in STEP_KINDS:
    app.task(noop_task, name=NOOP + _kind)
