"""The progress of a chunk: the model's reports as stages of the contract and as timings."""

from __future__ import annotations

import time
from typing import Any

from farm.engine.step_context import StepContext, Throttle
from farm.estimate import decode_s, sampling_s
from farm.metrics import add
from farm.route import Step

FIRST_PCT = 20
LAST_PCT = 85
"""The chunks' share of a job's progress."""

SAMPLING_SHARE = 0.8
"""The denoise steps' share of a chunk's progress."""

SHARES = {
    "pre": (0.0, 0.0),
    "sampling": (0.0, SAMPLING_SHARE),
    "decode": (SAMPLING_SHARE, 1 - SAMPLING_SHARE),
}
"""Where each stage begins within a chunk, and its share of the chunk."""

PARTS = ("sampling", "decode")
"""The stages that take time."""

PIECES_INTERVAL_S = 5.0
"""Pieces are decoded many a second; only a slow decode has events between its first and last."""


class Progress:
    """Receives the model's reports on one chunk, and counts the model's seconds between them.

    What happens before the first report, such as fetching and decoding the inputs, is not counted.
    """

    def __init__(self, ctx: StepContext, chunks: int) -> None:
        self.ctx = ctx
        self.chunks = chunks
        self.first: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.reported_at: float | None = None
        self.pieces = Throttle(PIECES_INTERVAL_S)
        self.seconds = _seconds_before(ctx)
        self.is_measured = bool(self.seconds)

    def report(self, stage: str, done: int, total: int) -> None:
        """Reports `pre`, `sampling` (before the first and after each step) or `decode` (before the
        first piece, after the last, and in between by rate).

        Raises Cancelled or WorkerDraining. A draining worker still decodes a sampled chunk: that
        takes less time than sampling it again.
        """
        now = time.monotonic()
        self.ctx.progressed()
        if self.reported_at is not None:
            busy_s = now - self.reported_at
            add("farm_gpu_busy_seconds_total", self.ctx.settings.gpus * busy_s)
        self.reported_at = now
        if stage == "pre" or (stage == "sampling" and done < total):
            self.ctx.raise_if_draining()
        self.last[stage] = now
        if stage not in self.first:
            self.first[stage] = now
            self.pieces = Throttle(PIECES_INTERVAL_S)
        elif stage == "decode" and done < total and not self.pieces.is_due():
            return
        chunk = self.ctx.step.chunk
        begin, share = SHARES[stage]
        done_share = begin + share * done / total
        details: dict[str, Any] = {"chunk": chunk, "chunks": self.chunks}
        name = f"chunk_{chunk}_{stage}"
        if stage == "sampling":
            name = f"{name}_{100 * done // total}"
            details |= {"step": done, "steps": total}
        if done:
            self._learn(stage, (now - self.first[stage]) * total / done)
        if self.seconds:
            details["eta_s"] = round(self._left_s(stage, done / total), 1)
        pct = FIRST_PCT + (LAST_PCT - FIRST_PCT) * (chunk + done_share) / self.chunks
        another_follows = stage == "sampling" and done == total
        self.ctx.report(name, pct, another_follows=another_follows, **details)

    def _learn(self, stage: str, whole_s: float) -> None:
        """What a stage takes, as this one does. How long the first decode takes is not seen yet
        while the model samples: in proportion as on the reference card.
        """
        self.seconds[stage] = whole_s
        if stage == "sampling" and not self.is_measured:
            self.seconds["decode"] = (
                whole_s * decode_s(self.ctx.request) / sampling_s(self.ctx.request)
            )

    def _left_s(self, stage: str, done: float) -> float:
        """Seconds until the last chunk is decoded, at a share of a stage of this one."""
        passed = {"pre": (0, 0), "sampling": (done, 0), "decode": (1, done)}[stage]
        begun_s = sum(share * self.seconds[each] for share, each in zip(passed, PARTS, strict=True))
        return (self.chunks - self.ctx.step.chunk) * sum(self.seconds.values()) - begun_s

    def timings(self) -> dict[str, int]:
        """Milliseconds of sampling and of decoding."""
        return {f"{part}_ms": round(1000 * (self.last[part] - self.first[part])) for part in PARTS}


def _seconds_before(ctx: StepContext) -> dict[str, float]:
    """Seconds of sampling and of decoding the chunk before; empty if they are not known."""
    before = ctx.seen.get(Step("generate", ctx.step.chunk - 1).id)
    timings = before.timings if before else {}
    known = {part: timings[f"{part}_ms"] / 1000 for part in PARTS if f"{part}_ms" in timings}
    return known if len(known) == len(PARTS) else {}
