"""Which jobs a farm has: how they are entered, with what they take of a quota, and forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from farm.caller import LOCAL
from farm.errors import FarmError, IdempotencyConflict, InvalidInput, VersionSkew
from farm.job import JobStatus, ResolvedRequest, TimeLimits
from farm.job.time_limits import NO_LIMITS
from farm.registry.accounts import (
    NO_DEMAND,
    UNLIMITED,
    Account,
    AccountRegistry,
    Demand,
    Quota,
)
from farm.registry.backend import Add, Effect, Effects, SetText
from farm.registry.deadlines import deadline_effects
from farm.registry.formats import dump
from farm.registry.jobs import JobRegistry, event_of, parse_request, result_effects
from farm.registry.keys import (
    DEADLINES,
    JOBS,
    LIVE,
    REMAINING,
    current_step_key,
    events_key,
    idempotency_record_key,
    job_key,
    jobs_of,
    parts_key,
    remaining_of,
    request_key,
    results_of,
    step_key,
    time_limits_key,
)
from farm.registry.records import Change, RecordStore
from farm.registry.status_record import StatusRecord, outline, parse_status, queued

UNKNOWN_LENGTH = -1.0
"""Index score of a job whose audio length is not known yet."""

JOB_KEYS = events_key, request_key, current_step_key, time_limits_key, parts_key, job_key
"""The records of a job but for those of its steps."""


class EntryRegistry:
    def __init__(self, records: RecordStore, accounts: AccountRegistry, jobs: JobRegistry) -> None:
        self._records = records
        self._accounts = accounts
        self._jobs = jobs
        self._backend = records.backend

    def first_job(self, request: ResolvedRequest, caller: str) -> str | None:
        """The job that a caller submitted with the idempotency key of a request; None if none.

        Raises InvalidInput if that was another request.
        """
        owner = self._owner_of_key(request, caller)
        if owner is None:
            return None
        first_id, _, digest = owner.partition(" ")
        if digest != request.digest:
            raise self._conflict(request, first_id)
        return first_id

    def _owner_of_key(self, request: ResolvedRequest, caller: str) -> str | None:
        """Job and digest of the request to which an idempotency key belongs."""
        if request.idempotency_key is None:
            return None
        return self._records.read(idempotency_record_key(caller, request.idempotency_key))[0]

    def _conflict(self, request: ResolvedRequest, first_id: str) -> IdempotencyConflict:
        (text,) = self._records.read(request_key(first_id))
        changed = request.differences(parse_request(first_id, text)) if text else []
        return IdempotencyConflict(
            f"idempotency_key: got {request.idempotency_key!r}; job {first_id} was submitted with "
            f"it and another {' and '.join(changed) or 'request'}; "
            "allowed: the same request, or a new key"
        )

    def check_quota(self, caller: str, demand: Demand, quota: Quota) -> None:
        """Raises QuotaExceeded if `add` would."""
        self._accounts.check(caller, demand, quota)

    def add(
        self,
        job_id: str,
        request: ResolvedRequest,
        *,
        caller: str = LOCAL,
        demand: Demand = NO_DEMAND,
        quota: Quota = UNLIMITED,
        limits: TimeLimits = NO_LIMITS,
        warnings: Sequence[str] = (),
        along: Sequence[Change[Any]] = (),
    ) -> str:
        """Enters a job, unless its caller has one with its idempotency key; the id of that job.

        `warnings` are those that are known already. The key, the job, what it takes of the quota
        and the changes `along` are written at once. Raises InvalidInput if the key is another
        request's, and QuotaExceeded.
        """

        def rule(account: Account) -> Account | None:
            if self.first_job(request, caller):
                return None
            self._accounts.check(caller, demand, quota)
            return account.with_job(job_id)

        def effects(_: StatusRecord) -> Effects:
            return [
                *self._entry_effects(status, request, demand, quota),
                *deadline_effects(status, limits),
            ]

        status = queued(job_id, self._backend.now(), caller, warnings)
        account = self._accounts.change_of(caller, rule)
        self._records.change_all(_entry(status, effects), account, *along)
        return self.first_job(request, caller) or job_id

    def restore(
        self,
        status: JobStatus,
        request: ResolvedRequest,
        *,
        demand: Demand = NO_DEMAND,
        current_step_id: str | None = None,
        webhook_pending: bool = False,
        limits: TimeLimits = NO_LIMITS,
    ) -> bool:
        """Enters a job with its status and the step that ran last; False if it was there before.

        No quota refuses it. An ended job is live only while its webhook is pending.
        """
        job_id = status.job_id

        def effects(_: StatusRecord) -> Effects:
            found = list(self._entry_effects(status, request, demand, UNLIMITED))
            if current_step_id:
                found.append(SetText(current_step_key(job_id), current_step_id))
            if webhook_pending:
                found.append(Add(LIVE, job_id, 0))
            if not status.ended:
                found += deadline_effects(status, limits)
            return found

        account = self._accounts.change_of(status.caller, lambda account: account.with_job(job_id))
        return bool(self._records.change_all(_entry(status, effects), account))

    def _entry_effects(
        self, status: JobStatus, request: ResolvedRequest, demand: Demand, quota: Quota
    ) -> Iterator[Effect]:
        """The writes that make a job; its idempotency key stays that of another one."""
        job_id = status.job_id
        caller = status.caller
        yield SetText(request_key(job_id), dump(request))
        yield from self._key_effects(status, request)
        for index in (JOBS, jobs_of(caller)):
            yield Add(index, job_id, status.created_at)
        yield from self._accounts.upload_effects(caller, demand, quota)
        if status.ended:
            yield event_of(status)
            yield from result_effects(status)
        else:
            yield Add(REMAINING, job_id, UNKNOWN_LENGTH)
            yield Add(remaining_of(caller), job_id, demand.gpu_s)
            yield Add(LIVE, job_id, 0)

    def _key_effects(self, status: JobStatus, request: ResolvedRequest) -> Iterator[Effect]:
        """The write that gives a job its idempotency key, unless another job has it."""
        if request.idempotency_key and self._owner_of_key(request, status.caller) is None:
            key = idempotency_record_key(status.caller, request.idempotency_key)
            yield SetText(key, f"{status.job_id} {request.digest}")

    def lost_parts(self, job_id: str, *, live: bool) -> list[str]:
        """What the broker has lost of a job that it knows; one that has not ended must be live.

        Raises InvalidInput if there is no such job.
        """
        # Looked up before the status is read: a job that ends in between has lost nothing.
        indices = [JOBS, LIVE, REMAINING]
        absent = [index for index in indices if self._backend.score(index, job_id) is None]
        request, text = self._records.read(request_key(job_id), job_key(job_id))
        if parse_status(job_id, text).ended:
            indices = [JOBS, LIVE] if live else [JOBS]
        lost = [index for index in absent if index in indices]
        return lost if request else ["request", *lost]

    def repair(self, job_id: str, request: ResolvedRequest, *, live: bool) -> None:
        """Enters what the broker has lost of a job that it knows; changes nothing that is there."""

        def parts(record: StatusRecord) -> Effects:
            if record.status is None:
                return ()
            key = self._key_effects(record.status, request)
            return [*_parts(record.status, request, live=live), *key]

        repaired = Change(
            job_key(job_id),
            parse=lambda text: StatusRecord(parse_status(job_id, text) if text else None),
            rule=lambda record: record if record.status else None,
            effects=parts,
        )
        self._records.change(repaired)

    def incomplete(self) -> list[str]:
        """Ids of jobs that have not been closed and of which the broker has lost a part."""
        unfinished = [status.job_id for status in self._jobs.newest() if not status.ended]
        open_jobs = dict.fromkeys([*unfinished, *self._jobs.live()])
        return [job_id for job_id in open_jobs if self._is_incomplete(job_id)]

    def _is_incomplete(self, job_id: str) -> bool:
        try:
            return bool(self.lost_parts(job_id, live=False))
        except InvalidInput:  # its status is lost
            return True
        except VersionSkew:  # its next reader ends it
            return False

    def forget(self, job_id: str, step_ids: Iterable[str]) -> None:
        """Removes every record of an ended job, those of the job itself last and at once, so that
        it can be repeated.
        """
        (text,) = self._records.read(job_key(job_id))
        caller = _caller_in(job_id, text)
        if caller is not None:
            self._forget_of_caller(job_id, caller)
        for index in (LIVE, REMAINING, DEADLINES, JOBS):
            self._backend.remove_member(index, job_id)
        for step_id in step_ids:
            self._backend.delete(step_key(job_id, step_id))
        self._backend.delete(*(key(job_id) for key in JOB_KEYS))
        self._records.clear_cache()

    def _forget_of_caller(self, job_id: str, caller: str) -> None:
        """Gives back what a job takes of its caller's quota, and the idempotency key."""
        for index in (jobs_of(caller), remaining_of(caller), results_of(caller)):
            self._backend.remove_member(index, job_id)
        self._accounts.close_if_unused(caller)
        (text,) = self._records.read(request_key(job_id))
        key = parse_request(job_id, text).idempotency_key if text else None
        if key is None:
            return
        record_key = idempotency_record_key(caller, key)
        (owner,) = self._records.read(record_key)
        if owner and owner.partition(" ")[0] == job_id:
            self._backend.delete(record_key)


def _entry(status: JobStatus, effects: Callable[[StatusRecord], Effects]) -> Change[StatusRecord]:
    """The change that enters a job, unless it is there."""
    return Change(
        job_key(status.job_id),
        parse=lambda text: StatusRecord(outline(status.job_id, text) if text else None),
        rule=lambda record: None if record.status else StatusRecord(status),
        effects=effects,
    )


def _caller_in(job_id: str, text: str | None) -> str | None:
    """The caller in the text of a status; None if it is unreadable, or there is no such job."""
    try:
        return parse_status(job_id, text).caller
    except FarmError:
        return None


def _parts(status: JobStatus, request: ResolvedRequest, *, live: bool) -> list[Effect]:
    """A job's request and its members in the indices; it is live until it has ended, or longer."""
    job_id = status.job_id
    parts: list[Effect] = [
        SetText(request_key(job_id), dump(request)),
        Add(JOBS, job_id, status.created_at),
    ]
    if not status.ended:
        parts.append(Add(REMAINING, job_id, UNKNOWN_LENGTH))
    if live or not status.ended:
        parts.append(Add(LIVE, job_id, 0))
    return parts
