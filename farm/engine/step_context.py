"""The argument of a step function: the context of the farm, its job, and its attempt."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farm.engine.context import Context
from farm.engine.kept_inputs import KeptInputs
from farm.engine.objects import sha256_of
from farm.errors import Cancelled
from farm.job import STAGES, Event, ResolvedRequest
from farm.registry import Lease
from farm.registry.formats import dump
from farm.registry.outputs import (
    ChunkOutput,
    Committed,
    DownloadOutput,
    EmbedOutput,
    StepOutput,
)
from farm.route import DOWNLOAD, EMBED, Step, StepKind
from farm.store import integrity, keys


class WorkerDraining(BaseException):
    """This worker is draining, so the step goes back to its queue.

    Like SystemExit it is no failure: no handler of exceptions may take it for one.
    """


class RetryLater(Exception):
    """An attempt ended without an output, as expected; the next one is due in `after_s` seconds."""

    def __init__(self, reason: str, *, after_s: float) -> None:
        super().__init__(reason)
        self.after_s = after_s


class Postponed(RetryLater):
    """The step may not begin yet, so the attempt is not counted."""


class Declined(RetryLater):
    """This worker cannot run the step as its job needs it, but another one may."""


DECLINE_S = 30.0
"""Pause after a worker has left a step to others; most chunks take longer, so another one of them
is free in the meantime.
"""

MAX_DECLINED = 20
"""Ten minutes, or more where steps wait in the queue: longer than a worker takes to restart."""


class Detached(Exception):
    """The attempt goes on outside this process, where another one may follow it."""


def never_draining() -> bool:
    return False


def ignore_progress() -> None:
    """What a process without health files does at each denoise step."""


class Throttle:
    """Lets something happen every few seconds at most, however often it is asked."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._next_at = time.monotonic() + every_s

    def is_due(self) -> bool:
        """True once every `every_s` seconds."""
        now = time.monotonic()
        if now < self._next_at:
            return False
        self._next_at = now + self._every_s
        return True


STOP_POLL_INTERVAL_S = 2.0
"""How often a running step asks the registry whether its job is over."""


@dataclass(frozen=True)
class StepContext(Context):
    """The context of one attempt at a step."""

    step: Step
    lease: Lease
    request: ResolvedRequest
    scratch: Path
    """A folder of this attempt, removed when it ends."""
    lease_lost: threading.Event
    """Set once another attempt holds the lease."""
    draining: Callable[[], bool] = never_draining
    progressed: Callable[[], None] = ignore_progress
    """Called at each denoise step."""
    timings: dict[str, int] = field(default_factory=dict)
    """Milliseconds by the name of what took them."""
    inputs: dict[str, Committed] = field(default_factory=dict)
    """The output of each earlier step that was read, by the step's id."""
    seen: dict[str, Committed | None] = field(default_factory=dict)
    """Outputs of earlier steps that were read in advance, by the step's id."""
    digests: dict[str, str] = field(default_factory=dict)
    """The SHA-256 of each object that this attempt stored, by key."""
    kept: KeptInputs = field(default_factory=KeptInputs)
    """What earlier steps of this process have read or stored."""
    unsent: list[Event] = field(default_factory=list)
    """Events that go with the next one."""
    stop_poll: Throttle = field(default_factory=lambda: Throttle(STOP_POLL_INTERVAL_S))

    @property
    def job_id(self) -> str:
        return self.lease.job_id

    @property
    def download_output(self) -> DownloadOutput:
        return self.committed(DOWNLOAD).output_as(DownloadOutput)

    @property
    def embed_output(self) -> EmbedOutput:
        return self.committed(EMBED).output_as(EmbedOutput)

    def chunk_output(self, chunk: int) -> ChunkOutput:
        return self.committed(Step("generate", chunk)).output_as(ChunkOutput)

    def committed(self, step: Step) -> Committed:
        """The output of an earlier step, noted as an input of this attempt."""
        return self._committed(step.id)

    def read_ahead(self, steps: Iterable[Step]) -> None:
        """Reads outputs of earlier steps in one request, instead of each when it is needed."""
        step_ids = [step.id for step in steps]
        found = self.registry.steps.all_committed(self.job_id, step_ids)
        self.seen.update(zip(step_ids, found, strict=True))

    def _committed(self, step_id: str) -> Committed:
        if step_id not in self.inputs:
            committed = self.seen.get(step_id) or self.registry.steps.committed(
                self.job_id, step_id
            )
            if committed is None:
                raise LookupError(f"{self.step.id} was run before {step_id} was committed")
            self.inputs[step_id] = committed
        return self.inputs[step_id]

    def report(
        self,
        stage: str,
        pct: float | None = None,
        *,
        warnings: Sequence[str] = (),
        another_follows: bool = False,
        **details: Any,
    ) -> None:
        """Reports a stage that was reached; raises Cancelled if the job or this attempt is over.

        `warnings` are all that are known by now.
        `another_follows`: the next report or the end of the step comes at once, and takes it along.
        """
        self._raise_if_lease_lost(f"at {stage}")
        if pct is None:
            pct = STAGES[stage]
        self.unsent.append(
            Event(
                stage=stage,
                pct=pct,
                job_id=self.job_id,
                details=details,
                warnings=tuple(warnings),
            )
        )
        if not another_follows:
            self.registry.jobs.report(*self.unsent)
            self.unsent.clear()

    def raise_if_draining(self) -> None:
        """Raises WorkerDraining; called wherever stopping loses less than going on would take."""
        if self.draining():
            raise WorkerDraining(f"worker is draining; step {self.step.id} goes back to the queue")

    def raise_if_stopped(self) -> None:
        """Raises WorkerDraining, or Cancelled if the lease is lost or the job is over.

        Cheap enough to be called between any two blocks of a long wait, from any thread.
        """
        self.raise_if_draining()
        self._raise_if_lease_lost("while it waits")
        if self.step.spec.runs_after_end or not self.stop_poll.is_due():
            return
        if self.registry.jobs.is_over(self.job_id):
            raise Cancelled(f"job {self.job_id} is over; {self.step.id} is interrupted")

    def _raise_if_lease_lost(self, where: str) -> None:
        if self.lease_lost.is_set():
            raise Cancelled(
                f"another attempt at {self.step.id} holds the lease; this one stops {where}"
            )

    def fetch(self, key: str, name: str) -> Path:
        """An object of the store as the file `name` of the scratch folder; raises CorruptObject."""
        path = self.scratch / name
        return integrity.fetch(self.store, key, path, sha256=self.sha256_of(key))

    def get(self, key: str) -> bytes:
        """The bytes of a small object of the store; raises CorruptObject."""
        return integrity.get(self.store, key, sha256=self.sha256_of(key))

    def put(self, source: Path | bytes, name: str) -> str:
        """Stores an object under a key that belongs to this attempt, and returns the key."""
        key = self.key(name)
        self.digests[key] = keys.digest(source)
        self.store.put(key, source)
        return key

    def put_output(self, output: StepOutput) -> Committed:
        """Stores the output of this attempt, which makes it complete, and returns its envelope."""
        committed = Committed(
            output=output,
            timings=self.timings,
            attempt_id=self.lease.attempt_id,
            inputs={step_id: read.attempt_id for step_id, read in self.inputs.items()},
            digests=self.digests,
        )
        integrity.put_sealed(self.store, self.key(keys.OUTPUT), dump(committed).encode())
        return committed

    def sha256_of(self, key: str) -> str:
        """The SHA-256 of an upload, or of what this attempt or an earlier step stored."""
        return self.digests.get(key) or sha256_of(key, self._committed)

    def key(self, name: str) -> str:
        """The key of an object of this attempt."""
        return keys.attempt(self.job_id, self.step.id, self.lease.attempt_id, name)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Adds the milliseconds that the block takes to the timing `name`."""
        start = time.monotonic()
        try:
            yield
        finally:
            took_ms = round(1000 * (time.monotonic() - start))
            self.timings[f"{name}_ms"] = self.timings.get(f"{name}_ms", 0) + took_ms


StepFunction = Callable[[StepContext], StepOutput]
"""Runs a step and returns what it leaves for the next ones."""

StepFunctions = Callable[[StepKind], StepFunction]
"""The function that runs each kind of step."""
