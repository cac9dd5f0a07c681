"""A chunk that a farm has ordered, made by a remote worker with signed URLs alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from farm.engine.accounting import REMOTE_MS
from farm.engine.attempt import farm_error
from farm.engine.kept_inputs import Input, KeptInputs
from farm.engine.scratch import paths_of, scratch_folder
from farm.engine.shortage import left_to_others
from farm.engine.step_context import RetryLater, StepContext, StepFunction, StepFunctions
from farm.errors import FarmError, TimedOut
from farm.job import Event
from farm.registry import Registry
from farm.registry.formats import dump
from farm.registry.memory import MemoryBackend
from farm.registry.outputs import Committed
from farm.runpod.order import ANSWER, LOST_WORKERS, Order, parse_order
from farm.settings import Settings
from farm.steps import step_function
from farm.store import integrity
from farm.store.signed import SignedStore

ANSWERED = {"answered": True}
"""What a worker returns: the answer itself is in the store."""

LOST = {"lost": True}
"""What it returns for an order that has ended its workers before."""

MAX_LOST = 2
"""Runpod runs a job again whose worker was lost, without end. After so many workers without an
answer, an order is one attempt of the farm's.
"""


@dataclass(frozen=True)
class RemoteChunk:
    """One order on its worker: `prefetch` needs no GPU, `run` does."""

    order: Order
    settings: Settings
    store: SignedStore
    scratch: Path
    kept: KeptInputs
    _stack: ExitStack

    @classmethod
    def open(
        cls, payload: dict[str, Any], settings: Settings, kept: KeptInputs | None = None
    ) -> Self:
        """The chunk of a serverless job's input; raises as `parse_order`."""
        order = parse_order(payload)
        with ExitStack() as stack:
            scratch = stack.enter_context(scratch_folder(order.job_id))
            store = SignedStore(order.grants, scratch)
            return cls(order, settings, store, scratch, kept or KeptInputs(), stack.pop_all())

    def close(self) -> None:
        """Removes its files."""
        self._stack.close()

    def prefetch(self) -> None:
        """Fetches what the chunk reads and is not in memory, unless it was made already."""
        if not self._is_answered():
            own = {self.order.key(LOST_WORKERS), self.order.key(ANSWER)}
            reads = self.order.grants.reads.keys() - own
            self.store.prefetch(sorted(key for key in reads if key not in self.kept))

    def run(
        self,
        stop: threading.Event,
        report: Callable[[Event], None],
        steps: StepFunctions = step_function,
    ) -> dict[str, Any]:
        """Makes the chunk and writes its answer last; returns what the bridge is told.

        An order that was delivered twice is not computed twice. Raises Cancelled at the next report
        once `stop` is set, and the FarmError with which it fails.
        """
        if self._is_answered():
            return ANSWERED
        lost = self._lost_workers()
        if lost >= MAX_LOST:
            return LOST
        self._note_lost(lost + 1)  # until this one has ended in some other way
        try:
            committed = self._generate(self._context(stop, report), steps("generate"))
        except _Answered:
            return ANSWERED
        except RetryLater as declined:
            return {"declined": {"reason": str(declined), "after_s": declined.after_s}}
        except Exception as error:
            self._note_lost(lost)
            raise self._described(error) from None
        integrity.put_sealed(self.store, self.order.key(ANSWER), dump(committed).encode())
        return ANSWERED

    def _lost_workers(self) -> int:
        """Workers that began with this order and ended before it did."""
        try:
            return int(self.store.get(self.order.key(LOST_WORKERS)))
        except KeyError:
            return 0

    def _note_lost(self, workers: int) -> None:
        self.store.put(self.order.key(LOST_WORKERS), str(workers).encode())

    def _generate(self, ctx: StepContext, generate: StepFunction) -> Committed:
        start = time.monotonic()
        with left_to_others(ctx.step, ctx.lease):
            output = generate(ctx)
        ctx.timings[REMOTE_MS] = round(1000 * (time.monotonic() - start))
        return Committed(
            output=output,
            timings=ctx.timings,
            attempt_id=self.order.attempt_id,
            inputs={step_id: read.attempt_id for step_id, read in ctx.inputs.items()},
            digests=ctx.digests,
        )

    def _context(self, stop: threading.Event, report: Callable[[Event], None]) -> StepContext:
        """The context of the attempt, with a registry that knows this chunk alone."""
        order = self.order
        registry = Registry(MemoryBackend())
        registry.entries.add(order.job_id, order.request)
        for step_id, committed in order.outputs.items():
            registry.steps.restore(
                order.job_id, step_id, attempt_id=committed.attempt_id, committed=committed
            )
        return _RemoteContext(
            settings=self.settings,
            store=self.store,
            registry=registry,
            step=order.step,
            lease=order.lease,
            request=order.request,
            scratch=self.scratch,
            lease_lost=stop,
            kept=_GrantedInputs(self.kept, order.grants.reads),
            forward=report,
            ends_at=time.monotonic() + order.timeout_s,
            is_answered=self._is_answered,
        )

    def _is_answered(self) -> bool:
        try:
            integrity.get_sealed(self.store, self.order.key(ANSWER))
        except KeyError:
            return False
        return True

    def _described(self, error: Exception) -> FarmError:
        """The error as one of the farm's, without paths of this worker."""
        found = farm_error(error, self.order.step)
        found.hidden = paths_of(self.order.job_id)
        return found


class _GrantedInputs(KeptInputs):
    """What is in a worker's memory, as far as an order may read it."""

    def __init__(self, kept: KeptInputs, granted: Container[str]) -> None:
        super().__init__()
        self._kept = kept
        self._granted = granted

    def get(self, key: str, read: Callable[[], Input]) -> Input:
        return self._kept.get(key, read) if key in self._granted else read()

    def put(self, key: str, value: Any) -> None:
        self._kept.put(key, value)


class _Answered(Exception):
    """Another worker, which got the same order, has written its answer meanwhile."""


@dataclass(frozen=True, kw_only=True)
class _RemoteContext(StepContext):
    """A step's context whose events also go to the bridge."""

    forward: Callable[[Event], None]
    ends_at: float
    """When the chunk has taken too long, on the monotonic clock."""
    is_answered: Callable[[], bool]

    def put(self, source: Path | bytes, name: str) -> str:
        """Stores an object, unless that would change what an answer has the digest of."""
        if self.is_answered():
            raise _Answered
        return super().put(source, name)

    def report(
        self, stage: str, pct: float | None = None, *, another_follows: bool = False, **details: Any
    ) -> None:
        super().report(stage, pct, **details)  # at once: its registry is in this process
        if time.monotonic() > self.ends_at:
            raise TimedOut(f"{self.step.id} took longer than FARM_STEP_TIMEOUT_S allows")
        status = self.registry.jobs.status(self.job_id)
        self.forward(Event(stage=stage, pct=status.pct, job_id=self.job_id, details=status.details))
