"""What one attempt at a step has in its hands."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farm.engine.context import Context
from farm.engine.route import Step
from farm.errors import Cancelled
from farm.job import STAGES, Event, JobRequest
from farm.registry import Lease
from farm.store import keys


class Drained(BaseException):
    """This worker is asked to go, and another does the step. Like SystemExit no failure, so nobody takes it for one."""


class Later(Exception):
    """An attempt came to nothing, as may be; the next one is due in `after_s` seconds."""

    def __init__(self, reason: str, *, after_s: float) -> None:
        super().__init__(reason)
        self.after_s = after_s


def stays() -> bool:
    """What `leaving` says of a worker that nobody asks to go: False."""
    return False


@dataclass(frozen=True)
class StepContext(Context):
    """One attempt: `scratch` is a folder of its own that goes when it ends, `lost` is set when another took over.

    `leaving` says whether this worker is asked to go.
    """

    step: Step
    lease: Lease
    request: JobRequest
    scratch: Path
    lost: threading.Event
    leaving: Callable[[], bool] = stays
    timings: dict[str, int] = field(default_factory=dict)
    made_of: dict[str, int] = field(default_factory=dict)
    """Of each product that was read the attempt that made it."""

    @property
    def job_id(self) -> str:
        return self.lease.job_id

    def report(self, stage: str, pct: float | None = None, **details: Any) -> None:
        """Tells a stage that has just been reached; raises Cancelled when the job or this attempt is over."""
        if self.lost.is_set():
            raise Cancelled(f"another worker took {self.step.id} over; this attempt stops at {stage}")
        pct = STAGES[stage] if pct is None else pct
        self.registry.report(Event(stage=stage, pct=pct, job_id=self.job_id, details=details))

    def make_way(self) -> None:
        """Raises Drained if this worker is asked to go; called wherever stopping loses less than going on takes."""
        if self.leaving():
            raise Drained(f"this worker is asked to go; {self.step.id} is another's now")

    def output(self, step: Step) -> dict[str, Any]:
        """What an earlier step made."""
        output = self.registry.output(self.job_id, step.id)
        if output is None:
            raise LookupError(f"{self.step.id} came before {step.id} was made")
        self.made_of[step.id] = output["attempt"]
        return output

    def fetch(self, key: str, name: str) -> Path:
        """An object of the store as the file `name` of the scratch folder."""
        return self.store.fetch(key, self.scratch / name)

    def put(self, source: Path | bytes, name: str) -> str:
        """Stores something under a key that is this attempt's alone."""
        key = keys.attempt(self.job_id, self.step.id, self.lease.fence, name)
        self.store.put(key, source)
        return key

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Adds the milliseconds that the block takes to the timing `name`."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.timings[f"{name}_ms"] = self.timings.get(f"{name}_ms", 0) + round(1000 * (time.monotonic() - began))
