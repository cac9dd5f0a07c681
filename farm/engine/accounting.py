"""What a job is estimated to take, and what its steps took: for estimates, quotas and metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType

from farm.engine.context import Context
from farm.engine.step_context import StepContext
from farm.errors import FarmUnreachable
from farm.estimate import Pace, chunk_s
from farm.job import ResolvedRequest
from farm.metrics import add, steps_class
from farm.plan import SHORTEST_SCENE
from farm.registry.accounts import Demand
from farm.registry.outputs import ChunkOutput, Committed, EmbedOutput
from farm.registry.steps import NO_UPDATE, EstimateUpdate
from farm.route import Step
from farm.store import keys

LOADING_TIMINGS = ("cold_start_ms", "load_ms")
"""Timings of what a process does once; they are not part of a chunk's own time."""

REMOTE_MS = "remote_ms"
"""The timing of a chunk that was made outside the farm: how long it had the GPU."""


def demand_of(
    ctx: Context,
    request: ResolvedRequest,
    *,
    audio_s: float | None = None,
    sizes: Mapping[str, int] = MappingProxyType({}),
) -> Demand:
    """What a job adds to what its caller has; `sizes` are bytes of uploads that are known, by key.

    Audio of unknown length counts as the longest that is allowed.
    """
    if audio_s is None:
        audio_s = ctx.settings.max_audio_s * (2 if request.audio_type == "add" else 1)
    plan = request.plan_of(audio_s)
    chunks = plan.chunks
    if request.scene_seg:  # each scene begins with a chunk of its own
        chunks += plan.frames // SHORTEST_SCENE
    uploads = {key: sizes.get(key) or ctx.store.size(key) or 0 for key in uploads_of(request)}
    return Demand(gpu_s=chunks * chunk_s(request), uploads=uploads)


def uploads_of(request: ResolvedRequest) -> set[str]:
    """The keys of a request's sources that are uploads."""
    sources = [request.cond_video]
    if request.cond_audio:
        sources += request.cond_audio.model_dump(exclude_none=True).values()
    found = {source.removeprefix(keys.SCHEME) for source in sources}
    return {key for key in found if keys.UPLOAD.fullmatch(key)}


@contextmanager
def gpu_time_charged(ctx: StepContext) -> Iterator[None]:
    """Charges the GPU seconds of the block to the caller, also if it fails or is cancelled.

    Each card of the worker counts. Not those of a draining worker, after which another one repeats
    the chunk.
    """
    if ctx.step.spec.queue != "gpu":
        yield
        return
    caller = ctx.registry.jobs.caller(ctx.job_id)
    start = time.monotonic()
    try:
        yield
    except Exception:
        _charge(ctx, caller, start)
        raise
    _charge(ctx, caller, start)


def _charge(ctx: StepContext, caller: str, start: float) -> None:
    with suppress(FarmUnreachable):  # draining without a broker: the charge is lost, not the chunk
        seconds = own_s(time.monotonic() - start, ctx.timings)
        cards = _cards(ctx.settings.gpus, ctx.timings)
        ctx.registry.accounts.charge(caller, cards * seconds)


def _cards(gpus: int, timings: Mapping[str, int]) -> int:
    """The cards that made a chunk together: those of the worker, or one of an endpoint."""
    return 1 if REMOTE_MS in timings else gpus


def own_s(took_s: float, timings: dict[str, int]) -> float:
    """Seconds of an attempt without loading the model, or waiting for a remote worker."""
    took_s = timings[REMOTE_MS] / 1000 if REMOTE_MS in timings else took_s
    loading_ms = sum(timings.get(name, 0) for name in LOADING_TIMINGS)
    return max(0.0, took_s - loading_ms / 1000)


def estimate_update(
    step: Step,
    request: ResolvedRequest,
    committed: Committed,
    *,
    chunks: int | None,
    took_s: float,
    gpus: int,
) -> EstimateUpdate:
    """The GPU seconds that remain of a job; only `embed` and `generate` change them."""
    expected_s = chunk_s(request)
    if isinstance(committed.output, EmbedOutput):
        return EstimateUpdate(remaining_gpu_s=committed.output.chunks * expected_s)
    if isinstance(committed.output, ChunkOutput) and chunks is not None:
        remaining = max(0, chunks - step.chunk - 1)
        return EstimateUpdate(
            remaining_gpu_s=remaining * expected_s,
            pace=Pace(
                own_s(took_s, committed.timings) / expected_s,
                _cards(gpus, committed.timings),
                on_cpu=committed.output.on_cpu,
            ),
            model=request.model,
        )
    return NO_UPDATE


def count_commit(
    step: Step, request: ResolvedRequest, committed: Committed, *, took_s: float
) -> None:
    """Counts a committed step."""
    add("farm_step_seconds", took_s, step=step.kind)
    if isinstance(committed.output, ChunkOutput):
        steps = steps_class(request.sample_steps)
        chunk_seconds = own_s(took_s, committed.timings)
        video = {"model": request.model, "size": request.size}
        add("farm_chunk_seconds", chunk_seconds, **video, steps=steps)
        add("farm_frames_total", committed.output.frames, **video)
