"""What a product that was made adds to the farm's numbers, and what it tells of its job."""

from __future__ import annotations

from typing import Any

from farm.engine.route import Step
from farm.estimate import chunk_s
from farm.job import JobRequest
from farm.metrics import add, steps_class
from farm.registry.registry import UNTOLD, Outlook

LOADING = ("cold_start_ms", "load_ms")
"""Timings of what a process does once: not a chunk's own."""


def own_s(took_s: float, timings: dict[str, int]) -> float:
    """Seconds of an attempt that any other attempt would have taken too."""
    return max(0.0, took_s - sum(timings.get(name, 0) for name in LOADING) / 1000)


def outlook(step: Step, request: JobRequest, output: dict[str, Any], *, chunks: int, took_s: float) -> Outlook:
    """What is ahead of a job of so many chunks behind a product; only `embed` and `generate` tell."""
    expected_s = chunk_s(request)
    match step.kind:
        case "embed":
            return Outlook(output.get("chunks", 0) * expected_s)
        case "generate":
            left = max(0, chunks - step.chunk - 1)
            return Outlook(left * expected_s, own_s(took_s, output["timings"]) / expected_s)
    return UNTOLD


def count_made(step: Step, request: JobRequest, output: dict[str, Any], *, took_s: float) -> None:
    """Counts a product that was made current."""
    add("farm_step_seconds", took_s, kind=step.kind)
    if step.kind == "generate":
        steps = steps_class(request.sample_steps)
        add("farm_chunk_seconds", own_s(took_s, output["timings"]), size=request.size, steps=steps)
        add("farm_frames_total", output.get("frames", 0), size=request.size)
