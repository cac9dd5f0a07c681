"""The record of one step: its state, and every rule by which that may change.

            claim_dispatch              acquire            commit
  uncovered ---------------> dispatched --------> leased ---------> committed
      ^                        |    ^               |
      |  mark_lost             |    |  release      |  the lease expires
      |                        |    |               |
      +------------------------+    +---------------+-----> uncovered

A step is covered as long as it is dispatched or leased: until then no other message is sent for it.
A message may wait for any time; only its loss ends a dispatch.
A released or postponed step counts as dispatched until it is due, or while its requeued message
waits.
A message that arrives late may acquire an uncovered step.

Each acquired lease raises the fencing token and begins an attempt with an id of its own. Only this
attempt may renew, release or commit, even after the lease has expired; an attempt whose lease the
broker has lost may not, although its token is issued again.

A remote attempt runs outside the farm, and a bridge holds its lease. When that expires, or the
bridge detaches, another bridge may adopt the attempt: it gets the lease without a new attempt, and
its predecessor loses it. The message for it goes to the bridges if one lives. One that waits for a
GPU meanwhile is recalled by the next bridge: another message is sent to the bridges.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict

from farm.registry.attempt_id import NO_ATTEMPT, fence_of, make_attempt_id
from farm.registry.formats import dump, load
from farm.registry.outputs import Committed
from farm.registry.remote import RemoteJob

UNTIL_LOST = 1e11
"""When a dispatch expires: in the year 5138, because infinity is no JSON."""

AT_BRIDGES = 2 * UNTIL_LOST
"""The same, of a message in the queue of the bridges: no other worker ever receives it."""


class StepState(StrEnum):
    UNCOVERED = "uncovered"
    DISPATCHED = "dispatched"
    LEASED = "leased"
    COMMITTED = "committed"


@dataclass(frozen=True)
class Lease:
    """The right to run a step: exclusive until it expires, then until the next one is acquired."""

    job_id: str
    step_id: str
    attempt_id: str
    """The fencing token, which orders the attempts at a step, and a random part."""
    attempts: int
    """Attempts that count, this one included."""
    after_expiry: bool = False
    """The attempt before lost its worker: its lease expired."""
    declined: int = 0
    """Attempts before that left the step to another worker."""
    holder: str = ""
    """Tells apart the bridges that have held the lease; empty for the first."""
    remote: RemoteJob | None = None
    """What runs an adopted attempt."""


class StepRecord(BaseModel):
    """The state of one step. Times are seconds since 1970 on the backend's clock.

    Each rule is a pure function: it returns the record after a change, or None if it refuses it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    dispatches: int = 0
    """Messages sent for this step."""
    consumed_dispatch: int = 0
    """The dispatch that led to the last lease; lower than `dispatches` while one is undelivered."""
    dispatched_at: float | None = None
    dispatch_expires_at: float = 0
    attempt_id: str = NO_ATTEMPT
    """The attempt that began last."""
    attempts: int = 0
    declined: int = 0
    acquired_at: float | None = None
    after_expiry: bool = False
    lease_expires_at: float = 0
    holder: str = ""
    remote: RemoteJob | None = None
    committed: Committed | None = None

    @classmethod
    def parse(cls, text: str | None, *, job_id: str, step_id: str) -> Self:
        """The record in a text, or that of a new step; VersionSkew if it cannot be read."""
        if text is None:
            return cls()
        return load(text, cls, name=f"job {job_id}: the record of step {step_id}")

    @property
    def text(self) -> str:
        return dump(self)

    def state(self, now: float) -> StepState:
        if self.committed is not None:
            return StepState.COMMITTED
        if self.lease_expires_at > now:
            return StepState.LEASED
        if self.dispatch_expires_at > now:
            return StepState.DISPATCHED
        return StepState.UNCOVERED

    @property
    def covered_until(self) -> float:
        """Until when a lease or a dispatched message covers this step; 0 once it is committed.

        A committed step covers nothing: the next step is to be dispatched.
        """
        return max(self.lease_expires_at, self.dispatch_expires_at)

    @property
    def is_undelivered(self) -> bool:
        """A message was dispatched and has led to no lease yet.

        No clock is read: those of two processes differ by the delay of a busy machine.
        """
        return self.committed is None and self.consumed_dispatch < self.dispatches

    @property
    def waited_s(self) -> float:
        """Seconds between the last dispatch and its lease."""
        if self.acquired_at is None or self.dispatched_at is None:
            return 0.0
        return max(0.0, self.acquired_at - self.dispatched_at)

    @property
    def fence(self) -> int:
        """The fencing token of the last attempt; 0 before the first."""
        return fence_of(self.attempt_id)

    def lease(self, job_id: str, step_id: str) -> Lease:
        """The lease that was acquired last."""
        return Lease(
            job_id,
            step_id,
            self.attempt_id,
            self.attempts,
            after_expiry=self.after_expiry,
            declined=self.declined,
            holder=self.holder,
            remote=self.remote,
        )

    def is_superseded(self, attempt_id: str) -> bool:
        """Whether an attempt is neither committed nor able to commit any more.

        One with a higher token is not: its commit may be what the broker has lost.
        """
        if attempt_id == self.attempt_id:
            return False
        return self.committed is not None or fence_of(attempt_id) <= self.fence

    def is_held_by(self, lease: Lease) -> bool:
        is_current = (self.attempt_id, self.holder) == (lease.attempt_id, lease.holder)
        return self.committed is None and is_current

    def is_adoptable(self, now: float) -> bool:
        """Whether the attempt runs outside the farm and its lease has ended."""
        return (
            self.committed is None
            and self.lease_expires_at <= now
            and self.remote is not None
            and self.remote.id is not None
            and self.remote.deadline > now
        )

    @property
    def has_message(self) -> bool:
        """A message waits for a worker, as far as is known."""
        return self.is_undelivered and self.dispatch_expires_at > 0

    @property
    def waits_for_bridge(self) -> bool:
        """Its message is in the queue of the bridges."""
        return self.has_message and self.dispatch_expires_at >= AT_BRIDGES

    def dispatched(
        self, now: float, *, bridge_lives: bool = False, early: bool = False
    ) -> Self | None:
        """The record after a dispatch; None if the step is committed or covered.

        `early`: what is due later, and has no message in a queue, may be dispatched now.
        """
        due_at = self.lease_expires_at if early else self.covered_until
        if self.committed is not None or self.has_message or due_at > now:
            return None
        return self._sent(now, to_bridge=bridge_lives and self.is_adoptable(now))

    def recalled(self, now: float) -> Self | None:
        """The record after a dispatch to the bridges; None if no remote attempt waits for a GPU."""
        if not (self.has_message and self.is_adoptable(now)) or self.waits_for_bridge:
            return None
        return self._sent(now, to_bridge=True)

    def kept(self, now: float) -> Self | None:
        """The record while its message waits; None if it has none, or a worker holds the lease."""
        if not self.has_message or self.lease_expires_at > now:
            return None
        return self._with(dispatch_expires_at=max(self.dispatch_expires_at, UNTIL_LOST))

    def marked_lost(self) -> Self | None:
        """The record without its dispatch; None if the message has led to a lease."""
        return self._with(dispatch_expires_at=0.0) if self.is_undelivered else None

    def postponed(self, now: float, *, due_in_s: float) -> Self | None:
        """The record after a message that came too soon; None if committed or leased."""
        if self.committed is not None or self.lease_expires_at > now:
            return None
        return self._with(consumed_dispatch=self.dispatches, dispatch_expires_at=now + due_in_s)

    def leased(self, now: float, *, lease_s: float, random: str) -> Self | None:
        """The record with the lease of a new attempt; None if the step is committed or leased.

        `random` is the random part of the attempt's id.
        """
        if self.committed is not None or self.lease_expires_at > now:
            return None
        never_ran = self.remote is not None and self.remote.id is None
        return self._with(
            attempt_id=make_attempt_id(self.fence + 1, random),
            attempts=self.attempts + (0 if never_ran else 1),
            holder="",
            remote=None,
            after_expiry=self.lease_expires_at > 0,  # a release leaves 0
            consumed_dispatch=self.dispatches,
            acquired_at=now,
            lease_expires_at=now + lease_s,
            dispatch_expires_at=0.0,
        )

    def adopted(self, now: float, *, lease_s: float, holder: str) -> Self | None:
        """The record with the lease of its remote attempt in other hands; None if it has none."""
        if not self.is_adoptable(now):
            return None
        return self._with(
            holder=holder,
            after_expiry=False,
            consumed_dispatch=self.dispatches,
            lease_expires_at=now + lease_s,
            dispatch_expires_at=0.0,
        )

    def submitted(self, lease: Lease, remote: RemoteJob | None) -> Self | None:
        """The record with the job that runs an attempt, None for no job; None if superseded."""
        return self._with(remote=remote) if self.is_held_by(lease) else None

    def detached(self, lease: Lease) -> Self | None:
        """The record of a remote attempt without a holder; None if the attempt is superseded."""
        if not self.is_held_by(lease):
            return None
        return self._with(lease_expires_at=0.0, dispatch_expires_at=0.0)

    def renewed(self, lease: Lease, *, expires_at: float) -> Self | None:
        return self._with(lease_expires_at=expires_at) if self.is_held_by(lease) else None

    def released(
        self,
        lease: Lease,
        now: float,
        *,
        retry_after_s: float,
        counted: bool,
        declined: bool,
        requeued: bool,
    ) -> Self | None:
        """The record after an attempt without output; None if the attempt is superseded.

        A requeued message counts as dispatched, whatever the delay.
        """
        if not self.is_held_by(lease):
            return None
        return self._with(
            attempts=lease.attempts if counted else lease.attempts - 1,
            declined=lease.declined + declined,
            remote=None,
            lease_expires_at=0.0,
            dispatch_expires_at=UNTIL_LOST if requeued else now + retry_after_s,
            consumed_dispatch=self.dispatches - 1 if requeued else self.consumed_dispatch,
        )

    def committed_by(self, lease: Lease, committed: Committed) -> Self | None:
        """The record with the output of an attempt; None if the attempt is superseded."""
        if not self.is_held_by(lease):
            return None
        # A second message may have been dispatched since the lease expired.
        return self._with(
            committed=committed, remote=None, lease_expires_at=0.0, dispatch_expires_at=0.0
        )

    def restored(self, *, attempt_id: str, committed: Committed | None) -> Self | None:
        """What is known of a record that was lost; None if the step is committed."""
        if self.committed is not None:
            return None
        return type(self)(attempt_id=attempt_id, committed=committed)

    def _sent(self, now: float, *, to_bridge: bool) -> Self:
        return self._with(
            dispatches=self.dispatches + 1,
            dispatched_at=now,
            dispatch_expires_at=AT_BRIDGES if to_bridge else UNTIL_LOST,
        )

    def _with(self, **changes: object) -> Self:
        return self.model_copy(update=changes)
