"""What a committed step adds to the metrics, and what it changes in the estimates."""

from __future__ import annotations

from farm.estimate import chunk_s
from farm.job import JobRequest
from farm.metrics import add, steps_class
from farm.registry.outputs import ChunkOutput, Committed, EmbedOutput
from farm.registry.steps import NO_UPDATE, EstimateUpdate
from farm.route import Step

LOADING_TIMINGS = ("cold_start_ms", "load_ms")
"""Timings of what a process does once; they are not part of a chunk's own time."""


def own_s(took_s: float, timings: dict[str, int]) -> float:
    """Seconds of an attempt without loading the model."""
    loading_ms = sum(timings.get(name, 0) for name in LOADING_TIMINGS)
    return max(0.0, took_s - loading_ms / 1000)


def estimate_update(
    step: Step,
    request: JobRequest,
    committed: Committed,
    *,
    chunks: int | None,
    took_s: float,
) -> EstimateUpdate:
    """The GPU seconds that remain of a job; only `embed` and `generate` change them."""
    expected_s = chunk_s(request)
    if isinstance(committed.output, EmbedOutput):
        return EstimateUpdate(remaining_gpu_s=committed.output.chunks * expected_s)
    if isinstance(committed.output, ChunkOutput) and chunks is not None:
        remaining = max(0, chunks - step.chunk - 1)
        return EstimateUpdate(
            remaining_gpu_s=remaining * expected_s,
            speed_ratio=own_s(took_s, committed.timings) / expected_s,
        )
    return NO_UPDATE


def count_commit(step: Step, request: JobRequest, committed: Committed, *, took_s: float) -> None:
    """Counts a committed step."""
    add("farm_step_seconds", took_s, step=step.kind)
    if isinstance(committed.output, ChunkOutput):
        steps = steps_class(request.sample_steps)
        chunk_seconds = own_s(took_s, committed.timings)
        add("farm_chunk_seconds", chunk_seconds, size=request.size, steps=steps)
        add("farm_frames_total", committed.output.frames, size=request.size)
