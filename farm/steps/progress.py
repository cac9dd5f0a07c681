"""A chunk's progress: what the model reports, as the contract's stages and as timings."""

from __future__ import annotations

import time
from typing import Any

from farm.engine.step_context import StepContext
from farm.metrics import add

FIRST_PCT, LAST_PCT = 20, 85
"""The chunks' share of a job's progress."""

SAMPLING_SHARE = 0.8
"""The denoise steps' share of a chunk's progress."""


class Progress:
    def __init__(self, ctx: StepContext, chunks: int) -> None:
        self.ctx = ctx
        self.chunks = chunks
        self.first: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.counted_at = time.monotonic()

    def report(self, stage: str, done: int, total: int) -> None:
        """One of `pre`, `sampling` (before the first and after each step) and `decode`; raises Cancelled or Drained.

        A worker that is asked to go still decodes what it has sampled: that takes less time than sampling it again.
        """
        now = time.monotonic()
        add("farm_gpu_busy_seconds_total", now - self.counted_at)
        self.counted_at = now
        if stage == "pre" or (stage == "sampling" and done < total):
            self.ctx.make_way()
        self.first.setdefault(stage, now)
        self.last[stage] = now
        chunk = self.ctx.step.chunk
        before, part = {
            "pre": (0.0, 0.0),
            "sampling": (0.0, SAMPLING_SHARE),
            "decode": (SAMPLING_SHARE, 1 - SAMPLING_SHARE),
        }[stage]
        share = before + part * done / total
        details: dict[str, Any] = {"chunk": chunk, "chunks": self.chunks}
        if stage == "sampling":
            details |= {"step": done, "steps": total}
        if share:
            details["eta_s"] = round((now - self.first["pre"]) / share * (self.chunks - chunk - share), 1)
        name = f"chunk_{chunk}_{stage}" + (f"_{100 * done // total}" if stage == "sampling" else "")
        self.ctx.report(name, FIRST_PCT + (LAST_PCT - FIRST_PCT) * (chunk + share) / self.chunks, **details)

    def timings(self) -> dict[str, int]:
        """Milliseconds that sampling and decoding took."""
        return {f"{stage}_ms": round(1000 * (self.last[stage] - self.first[stage])) for stage in ("sampling", "decode")}
