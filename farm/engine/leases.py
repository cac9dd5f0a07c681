"""The leases of running attempts: one thread of a process renews them all.

It waits between rounds and ends after one without a lease, so a step that takes less than a quarter
of its lease costs no thread and no request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context as LogContext
from contextvars import copy_context
from dataclasses import dataclass, field

from farm.engine.context import Context
from farm.errors import FarmError
from farm.logs import log
from farm.registry import Lease

ROUNDS = 4
"""Renewals in the time of a lease."""


@dataclass(eq=False)
class _Held:
    """A lease that is to be renewed until its block ends, it is lost, or its job is over."""

    ctx: Context
    lease: Lease
    outlives_job: bool
    lost: threading.Event = field(default_factory=threading.Event)
    renewing: threading.Lock = field(default_factory=threading.Lock)
    is_held: bool = True
    logs: LogContext = field(default_factory=copy_context)

    def renew(self) -> None:
        with self.renewing:
            if self.is_held:
                self.is_held = self._renewed()

    def _renewed(self) -> bool:
        registry = self.ctx.registry
        try:
            # That of an ended job expires, so that it does not keep the reaper away.
            if registry.jobs.is_over(self.lease.job_id) and not self.outlives_job:
                return False
            if registry.steps.renew(self.lease, lease_s=self.ctx.settings.lease_s):
                return True
        except FarmError as error:  # draining without a broker; the fencing token decides
            log("lease_renewal_failed", step_id=self.lease.step_id, reason=error.message)
            return True
        self.lost.set()
        return False


class LeaseKeeper:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: set[_Held] = set()
        self._thread: threading.Thread | None = None

    @contextmanager
    def keep(self, ctx: Context, lease: Lease, *, outlives_job: bool) -> Iterator[threading.Event]:
        """Renews a lease until the block ends; yields an event that is set once it is lost."""
        held = _Held(ctx, lease, outlives_job)
        with self._lock:
            self._held.add(held)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._renew_all, args=(ctx.settings.lease_s,), name="leases", daemon=True
                )
                self._thread.start()
        try:
            yield held.lost
        finally:
            with self._lock:
                self._held.discard(held)
            with held.renewing:  # a renewal after the release would hold the step
                held.is_held = False

    def _renew_all(self, lease_s: float) -> None:
        while True:
            time.sleep(lease_s / ROUNDS)
            with self._lock:
                self._held = {held for held in self._held if held.is_held}
                if not self._held:
                    self._thread = None
                    return
                round_ = list(self._held)
            for held in round_:
                held.logs.run(held.renew)
