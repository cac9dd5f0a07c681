"""The steps of all jobs: dispatches, leases and outputs. The rules are those of `StepRecord`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

from farm.caller import LOCAL
from farm.errors import VersionSkew, WorkerLost
from farm.estimate import Pace
from farm.registry.attempt_id import random_part
from farm.registry.backend import Add, Effect, Effects, Remove, Score, SetText
from farm.registry.keys import (
    LIVE,
    PACE,
    REMAINING,
    REMOTE,
    SEARCHED,
    UNDELIVERED,
    current_step_key,
    pace_key,
    remaining_of,
    step_key,
)
from farm.registry.outputs import Committed
from farm.registry.pace import read_paces
from farm.registry.records import Change, RecordStore
from farm.registry.remote import MAX_REMOTE, RemoteAttempt, RemoteJob
from farm.registry.step_record import UNTIL_LOST, Lease, StepRecord
from farm.registry.workers import WorkerRegistry


@dataclass(frozen=True)
class EstimateUpdate:
    """What a committed step changes in the estimates; None leaves one as it is."""

    remaining_gpu_s: float | None = None
    pace: Pace | None = None
    model: str | None = None
    """The one that made the chunk of the pace."""


NO_UPDATE = EstimateUpdate()

MAX_SEARCHED = 1_000_000
"""Jobs whose messages are compared with the index of undelivered ones."""

Rule = Callable[[StepRecord], StepRecord | None]
StepChange = Change[StepRecord]


class Parse(Protocol):
    def __call__(self, text: str | None, *, job_id: str, step_id: str) -> StepRecord: ...


class StepRegistry:
    """Each method that changes a record does so atomically, by compare-and-set."""

    def __init__(self, records: RecordStore) -> None:
        self._records = records
        self._workers = WorkerRegistry(records.backend)

    def claim_dispatch(self, job_id: str, step_id: str, *, early: bool = False) -> bool:
        """Whether the caller may send the message of a step now; True for one caller alone.

        No other caller may until it has led to a lease, or is marked as lost. `early`: a step that
        was postponed or released may be dispatched before it is due.
        """
        if self._records.change(self.dispatch_change(job_id, step_id, early=early)):
            return True
        # Redis may have lost that its job is covered, or that its message waits.
        now = self._records.backend.now()
        self._send(job_id, step_id, now, lambda record: record.kept(now))
        return False

    def dispatch_change(self, job_id: str, step_id: str, *, early: bool = False) -> StepChange:
        """The change by which a message of a step waits."""
        now = self._records.backend.now()

        def rule(record: StepRecord) -> StepRecord | None:
            bridge_lives = record.is_adoptable(now) and self._workers.count_alive()["bridge"] > 0
            return record.dispatched(now, bridge_lives=bridge_lives, early=early)

        return _change_of(job_id, step_id, rule, [_waiting(job_id, step_id, now)])

    def recall(self, job_id: str, step_id: str) -> bool:
        """Whether the caller may send the bridges a message for a chunk that one of them has left,
        because the message that was sent before waits for a GPU.
        """
        now = self._records.backend.now()
        return self._send(job_id, step_id, now, lambda record: record.recalled(now))

    def _send(self, job_id: str, step_id: str, now: float, rule: Rule) -> bool:
        """Whether the rule applies, by which a message of the step waits then."""
        return self._change(job_id, step_id, rule, [_waiting(job_id, step_id, now)]) is not None

    def waiting_for_bridges(self) -> list[tuple[str, str]]:
        """Job and step of messages in the queue of the bridges."""
        found = self._records.backend.members_between(LIVE, UNTIL_LOST, inf, MAX_REMOTE)
        job_ids = [job_id for job_id, _ in found]
        step_ids = self._records.backend.get_all([current_step_key(each) for each in job_ids])
        steps = zip(job_ids, step_ids, strict=True)
        return [(job_id, step_id) for job_id, step_id in steps if step_id is not None]

    def unlisted(self) -> set[str]:
        """Jobs with a message that is not in the index of undelivered ones: Redis has lost that."""
        dispatched = self._records.backend.members_between(LIVE, UNTIL_LOST - 1, inf, MAX_SEARCHED)
        return {job_id for job_id, _ in dispatched} - {job_id for job_id, _ in self.undelivered()}

    def claim_search(self, *, every_s: float) -> bool:
        """Whether the caller is to search all queues now; True for one caller in `every_s`."""
        backend = self._records.backend
        now = backend.now()
        (last,) = backend.get_all([SEARCHED])
        if last is not None and now - float(last) < every_s:
            return False
        return backend.compare_and_set(SEARCHED, last, f"{now:.6f}") == last

    def undelivered(self, *, for_s: float | None = None) -> list[tuple[str, str]]:
        """Job and step of messages that led to no lease.

        Of those dispatched at least `for_s` seconds ago, by default of all: since the clocks of two
        processes differ a little, the newest may seem to be from the future.
        """
        cutoff = inf if for_s is None else self._records.backend.now() - for_s
        members = self._records.backend.members_below(UNDELIVERED, cutoff)
        return [(job_id, step_id) for job_id, _, step_id in (m.partition(" ") for m in members)]

    def postpone(self, job_id: str, step_id: str, *, due_in_s: float) -> bool:
        """Covers a step whose message came too soon, without a message; False if it is not to run.

        That is if it is committed, or another attempt holds the lease.
        """
        now = self._records.backend.now()
        postponed = self._change(
            job_id,
            step_id,
            lambda record: record.postponed(now, due_in_s=due_in_s),
            [Remove(UNDELIVERED, undelivered_member(job_id, step_id))],
        )
        return postponed is not None

    def mark_lost(self, job_id: str, step_id: str) -> None:
        """Records that a message is in no queue, so that the step may be dispatched again."""
        member = undelivered_member(job_id, step_id)
        try:
            self._change(job_id, step_id, StepRecord.marked_lost)
        except VersionSkew:
            self._records.backend.remove_member(UNDELIVERED, member)  # else it is lost for ever
            raise
        self._records.backend.remove_member(UNDELIVERED, member)

    def acquire(
        self,
        job_id: str,
        step_id: str,
        *,
        lease_s: float,
        max_attempts: int,
        adopt: bool = False,
        along: Sequence[Change[Any]] = (),
    ) -> Lease | None:
        """The lease on a step; None if it is committed or another attempt holds the lease.

        `adopt`: of a remote attempt without a lease, instead of a new attempt. `along` are changes
        that are written with it, as far as they apply. Raises WorkerLost if the allowed attempts
        are used up; the lease is held then.
        """
        now = self._records.backend.now()
        random = random_part()

        def rule(record: StepRecord) -> StepRecord | None:
            adopted = record.adopted(now, lease_s=lease_s, holder=random) if adopt else None
            return adopted or record.leased(now, lease_s=lease_s, random=random)

        effects: list[Effect] = [
            SetText(current_step_key(job_id), step_id),
            Remove(UNDELIVERED, undelivered_member(job_id, step_id)),
        ]
        leased = _change_of(job_id, step_id, rule, effects)
        record: StepRecord | None = self._records.change_all(leased, optional=along).get(leased.key)
        if record is None:
            return None
        if record.attempts > max_attempts:
            raise WorkerLost(
                f"{step_id}: none of {max_attempts} attempts committed, "
                "and the last one lost its worker: it was killed, perhaps for lack of memory, "
                "or cut off"
            )
        return record.lease(job_id, step_id)

    def renew(self, lease: Lease, *, lease_s: float) -> bool:
        """Extends a lease; False if the attempt is superseded."""
        expires_at = self._records.backend.now() + lease_s
        return self._change_held(lease, lambda record: record.renewed(lease, expires_at=expires_at))

    def note_remote(self, lease: Lease, remote: RemoteJob | None) -> bool:
        """Records which remote job runs an attempt, None for no job; False if it is superseded."""
        effects: list[Effect] = []
        if remote is not None and remote.id is not None:
            effects.append(Add(REMOTE, remote_attempt(lease, remote).member, remote.deadline))
        return self._change_held(lease, lambda record: record.submitted(lease, remote), effects)

    def detach(self, lease: Lease) -> bool:
        """Lets another bridge adopt a remote attempt; False if it is superseded."""
        return self._change_held(lease, lambda record: record.detached(lease))

    def release(
        self,
        lease: Lease,
        *,
        retry_after_s: float = 0.0,
        counted: bool = True,
        declined: bool = False,
        requeued: bool = False,
    ) -> bool:
        """Ends an attempt without an output; False if it is superseded.

        The step is not dispatched again within `retry_after_s` seconds. An attempt that was
        interrupted through no fault of the step, or declined it for another worker, is not
        counted. A requeued message is back in its queue, so it counts as dispatched.
        """
        now = self._records.backend.now()
        return self._change_held(
            lease,
            lambda record: record.released(
                lease,
                now,
                retry_after_s=retry_after_s,
                counted=counted,
                declined=declined,
                requeued=requeued,
            ),
            [_waiting(lease.job_id, lease.step_id, now)] if requeued else [],
        )

    def commit_change(
        self,
        lease: Lease,
        committed: Committed,
        estimate: EstimateUpdate = NO_UPDATE,
        *,
        caller: str = LOCAL,
    ) -> StepChange:
        """The change that makes the output of an attempt the step's output; it refuses an attempt
        that is superseded.

        `caller` is the job's, whose remaining GPU seconds change too.
        """
        effects: list[Effect] = []
        if estimate.pace is not None:
            keys = [PACE, pace_key(estimate.model)] if estimate.model else [PACE]
            effects += [SetText(key, estimate.pace.text) for key in keys]
        if estimate.remaining_gpu_s is not None:
            for index in (REMAINING, remaining_of(caller)):
                effects.append(Score(index, lease.job_id, estimate.remaining_gpu_s))
        return _change_of(
            lease.job_id,
            lease.step_id,
            lambda record: record.committed_by(lease, committed),
            effects,
        )

    def pace(self, model: str) -> Pace:
        """The pace of the farm with a model; that of the reference card before its first chunk."""
        return self.paces([model])[model]

    def paces(self, models: Iterable[str]) -> dict[str, Pace]:
        """That of each of some models."""
        return read_paces(self._records.backend, models)

    def restore(
        self, job_id: str, step_id: str, *, attempt_id: str, committed: Committed | None = None
    ) -> None:
        """Enters what is known of a lost record: its output, or a token above all others."""
        self._change(
            job_id,
            step_id,
            lambda record: record.restored(attempt_id=attempt_id, committed=committed),
        )

    def without_record(self, job_id: str, step_ids: Sequence[str]) -> list[str]:
        """Those of some steps of which there is no record."""
        texts = self._records.backend.get_all([step_key(job_id, step_id) for step_id in step_ids])
        return [step_id for step_id, text in zip(step_ids, texts, strict=True) if text is None]

    def committed(self, job_id: str, step_id: str) -> Committed | None:
        """The output of a step, in its envelope; None until it is committed."""
        return self.record(job_id, step_id).committed

    def all_committed(self, job_id: str, step_ids: Sequence[str]) -> list[Committed | None]:
        """The outputs of several steps, in one request."""
        return [record.committed for record in self._read([(job_id, each) for each in step_ids])]

    def is_superseded(self, job_id: str, step_id: str, attempt_id: str) -> bool:
        """Whether an attempt is neither committed nor able to commit any more."""
        return self.record(job_id, step_id).is_superseded(attempt_id)

    def dispatched_at(self, steps: Iterable[tuple[str, str]]) -> list[float | None]:
        """When the message of each step (job, step) was sent last; None if it never was."""
        return [record.dispatched_at for record in self._read(list(steps), parse=_readable)]

    def awaited(self, steps: Iterable[tuple[str, str]]) -> list[bool]:
        """Whether a message of each step (job, step) was sent that has led to no lease yet."""
        return [record.is_undelivered for record in self._read(list(steps), parse=_readable)]

    def waiting_since(self, steps: Iterable[tuple[str, str]]) -> list[float]:
        """Since when the message of each step (job, step) waits: it was sent, or requeued; infinite
        if none waits.
        """
        backend = self._records.backend
        pairs = list(steps)
        added = dict(backend.members_between(UNDELIVERED, -inf, inf, MAX_SEARCHED))
        return [
            max(added.get(undelivered_member(*step), inf), record.dispatched_at or 0.0)
            for step, record in zip(pairs, self._read(pairs, parse=_readable), strict=True)
        ]

    def delivered_in_order(self, steps: Iterable[tuple[str, str]]) -> list[float | None]:
        """When the one message of each step (job, step) was sent that a worker runs now; None if
        none runs it, or more messages than one were sent.
        """
        now = self._records.backend.now()
        return [
            record.dispatched_at
            if record.lease_expires_at > now and record.dispatches == record.consumed_dispatch == 1
            else None
            for record in self._read(list(steps), parse=_readable)
        ]

    def leased(self, steps: Iterable[tuple[str, str]]) -> list[bool]:
        """Whether a worker holds the lease of each step (job, step)."""
        now = self._records.backend.now()
        records = self._read(list(steps), parse=_readable)
        return [record.lease_expires_at > now for record in records]

    def waited_s(self, job_id: str, step_ids: Sequence[str]) -> float:
        """Seconds that the messages of steps waited for their leases, in all."""
        steps = [(job_id, step_id) for step_id in step_ids]
        return sum(record.waited_s for record in self._read(steps))

    def attempts(self, job_id: str, step_id: str) -> int:
        """Attempts at a step that count."""
        return self.record(job_id, step_id).attempts

    def current_step_id(self, job_id: str) -> str | None:
        """The step whose lease was acquired last; None before the first."""
        return self._records.read(current_step_key(job_id))[0]

    def record(self, job_id: str, step_id: str) -> StepRecord:
        """The record of a step as it is now."""
        (text,) = self._records.read(step_key(job_id, step_id))
        return StepRecord.parse(text, job_id=job_id, step_id=step_id)

    def last_record(self, job_id: str, step_id: str) -> StepRecord:
        """The record that this process read or wrote last."""
        text = self._records.last_seen(step_key(job_id, step_id))
        return StepRecord.parse(text, job_id=job_id, step_id=step_id)

    def _read(
        self, steps: Sequence[tuple[str, str]], *, parse: Parse = StepRecord.parse
    ) -> list[StepRecord]:
        """Records in one request; they are read once, so they do not fill the cache."""
        keys = [step_key(job_id, step_id) for job_id, step_id in steps]
        texts = self._records.backend.get_all(keys)
        return [
            parse(text, job_id=job_id, step_id=step_id)
            for (job_id, step_id), text in zip(steps, texts, strict=True)
        ]

    def _change_held(self, lease: Lease, rule: Rule, effects: Effects = ()) -> bool:
        """Whether the rule applies: it does not if the attempt is superseded."""
        return self._change(lease.job_id, lease.step_id, rule, effects) is not None

    def _change(
        self, job_id: str, step_id: str, rule: Rule, effects: Effects = ()
    ) -> StepRecord | None:
        """The updated record of a step, or None."""
        return self._records.change(_change_of(job_id, step_id, rule, effects))


def _change_of(job_id: str, step_id: str, rule: Rule, effects: Effects) -> StepChange:
    """A change of a step record that also updates until when its job is covered."""
    return Change(
        step_key(job_id, step_id),
        parse=lambda text: StepRecord.parse(text, job_id=job_id, step_id=step_id),
        rule=rule,
        effects=lambda record: [Score(LIVE, job_id, record.covered_until), *effects],
    )


def _waiting(job_id: str, step_id: str, now: float) -> Add:
    """The write that lists a message as undelivered."""
    return Add(UNDELIVERED, undelivered_member(job_id, step_id), now)


def _readable(text: str | None, *, job_id: str, step_id: str) -> StepRecord:
    """The record in a text; a new one in place of one of another version, for statistics."""
    try:
        return StepRecord.parse(text, job_id=job_id, step_id=step_id)
    except VersionSkew:
        return StepRecord()


def undelivered_member(job_id: str, step_id: str) -> str:
    """A step as a member of an index; neither part has a space."""
    return f"{job_id} {step_id}"


def remote_attempt(lease: Lease, remote: RemoteJob) -> RemoteAttempt:
    """The attempt under a lease with the remote job that runs it."""
    return RemoteAttempt(
        lease.job_id, lease.step_id, lease.attempt_id, remote.endpoint, str(remote.id)
    )
