"""The jobs of a farm: requests, statuses and events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import chain, count
from math import inf
from typing import Any

from farm.caller import LOCAL
from farm.errors import Cancelled, FarmError, IdempotencyConflict, InvalidInput, VersionSkew
from farm.job import (
    STAGES,
    Event,
    Failure,
    JobStatus,
    ResolvedRequest,
    Result,
    State,
    TimeLimits,
)
from farm.job.time_limits import NO_LIMITS
from farm.registry.accounts import (
    NO_DEMAND,
    UNLIMITED,
    Account,
    AccountRegistry,
    Demand,
    Quota,
)
from farm.registry.backend import Add, Append, Effect, Effects, Increment, Remove, Score, SetText
from farm.registry.deadlines import deadline_effects
from farm.registry.formats import dump, load
from farm.registry.keys import (
    DEADLINES,
    ENDED,
    JOBS,
    LIVE,
    REMAINING,
    current_step_key,
    ended_of,
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
from farm.registry.records import CACHE_SIZE, Change, RecordStore
from farm.registry.status_record import (
    StatusRecord,
    outline,
    parse_status,
    queued,
    unknown_job,
)

LAST_STAGES = ("completed", "error", "cancelled")
"""A job's last event has one of these stages."""

UNKNOWN_LENGTH = -1.0
"""Index score of a job whose audio length is not known yet."""

JOB_KEYS = events_key, request_key, current_step_key, time_limits_key, parts_key, job_key
"""The records of a job but for those of its steps."""

PAGE = 100
"""Jobs that are listed with one request."""


class JobRegistry:
    def __init__(self, records: RecordStore, accounts: AccountRegistry) -> None:
        self._records = records
        self._accounts = accounts
        self._backend = records.backend
        self._cached_request = lru_cache(CACHE_SIZE)(self._read_request)

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
        self._accounts.check(caller, self._accounts.read(caller), demand, quota)

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
    ) -> str:
        """Enters a job, unless its caller has one with its idempotency key; the id of that job.

        `warnings` are those that are known already. The key, the job and what it takes of the quota
        are written at once. Raises InvalidInput if the key is another request's, and QuotaExceeded.
        """

        def rule(account: Account) -> Account | None:
            if self.first_job(request, caller):
                return None
            self._accounts.check(caller, account, demand, quota)
            return account.with_job(job_id)

        def effects(_: StatusRecord) -> Effects:
            return [
                *self._entry_effects(status, request, demand, quota),
                *deadline_effects(status, limits),
            ]

        status = queued(job_id, self._backend.now(), caller, warnings)
        self._records.change_all(_entry(status, effects), self._accounts.change_of(caller, rule))
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
            yield _event_of(status)
            yield from _result_effects(status)
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
        absent = [index for index in indices if not self._backend.has_member(index, job_id)]
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

        self._records.change(
            job_key(job_id),
            parse=lambda text: StatusRecord(parse_status(job_id, text) if text else None),
            rule=lambda record: record if record.status else None,
            effects=parts,
        )

    def incomplete(self) -> list[str]:
        """Ids of jobs that have not been closed and of which the broker has lost a part."""
        unfinished = [status.job_id for status in self.newest() if not status.ended]
        open_jobs = dict.fromkeys([*unfinished, *self.live()])
        return [job_id for job_id in open_jobs if self._is_incomplete(job_id)]

    def _is_incomplete(self, job_id: str) -> bool:
        try:
            return bool(self.lost_parts(job_id, live=False))
        except InvalidInput:  # its status is lost
            return True
        except VersionSkew:  # its next reader ends it
            return False

    def exists(self, job_id: str) -> bool:
        return self._records.read(job_key(job_id)) != [None]

    def request(self, job_id: str) -> ResolvedRequest:
        """The request of a job; InvalidInput if there is no such job."""
        return self._cached_request(job_id)

    def _read_request(self, job_id: str) -> ResolvedRequest:
        text = self._records.last_seen(request_key(job_id))
        if text is None:
            raise unknown_job(job_id)
        return parse_request(job_id, text)

    def requests(self, job_ids: Sequence[str]) -> dict[str, ResolvedRequest]:
        """The requests of many jobs by id, in one request; without those that cannot be read."""
        texts = self._backend.get_all([request_key(job_id) for job_id in job_ids])
        return dict(_readable_requests(zip(job_ids, texts, strict=True)))

    def live_requests(self, job_ids: Sequence[str]) -> dict[str, ResolvedRequest]:
        """The same of those jobs that have not ended."""
        keys = [key(job_id) for job_id in job_ids for key in (request_key, job_key)]
        texts = self._backend.get_all(keys)
        live = [
            (job_id, request)
            for job_id, request, status in zip(job_ids, texts[0::2], texts[1::2], strict=True)
            if not _is_over(job_id, status)
        ]
        return dict(_readable_requests(live))

    def status(self, job_id: str) -> JobStatus:
        """The status of a job; InvalidInput if there is no such job."""
        (text,) = self._records.read(job_key(job_id))
        return parse_status(job_id, text)

    def last_status(self, job_id: str) -> JobStatus:
        """The status that this process read or wrote last; InvalidInput if there is no such job."""
        return parse_status(job_id, self._records.last_seen(job_key(job_id)))

    def texts(self, job_ids: Sequence[str]) -> list[str | None]:
        """The records of many jobs' statuses, for `outline`, in one request; None for unknown."""
        return self._backend.get_all([job_key(job_id) for job_id in job_ids])

    def unfinished(self, caller: str) -> Iterator[JobStatus]:
        """A caller's jobs that have not ended, `PAGE` of them at a time."""
        job_ids = self._backend.members_below(remaining_of(caller), inf)
        for start in range(0, len(job_ids), PAGE):
            found = self._outlines(job_ids[start : start + PAGE])
            yield from (status for status in found if not status.ended)

    def ended_counts(self, caller: str) -> Counter[State]:
        """How many of a caller's jobs have ended, by their state."""
        counts: Counter[Any] = Counter()
        for outcome, times in self._backend.members_between(ended_of(caller), 0, inf, PAGE):
            counts[outcome.partition(" ")[0]] += int(times)
        return counts

    def caller(self, job_id: str) -> str:
        """Whose job it is, which never changes; InvalidInput if there is no such job."""
        return self.last_status(job_id).caller

    def callers_of(self, upload: str, *, besides: str) -> set[str]:
        """The callers of all jobs besides one that have an upload, given by its key."""
        found = set()
        for job_ids in self._pages(None, inf):
            requests = self._backend.get_all([request_key(job_id) for job_id in job_ids])
            users = [
                job_id
                for job_id, request in zip(job_ids, requests, strict=True)
                if job_id != besides and request is not None and upload in request
            ]
            found |= {status.caller for status in self._outlines(users)}
        return found

    def is_over(self, job_id: str) -> bool:
        """Whether a job has ended or is not known any more, so that it cannot be advanced."""
        (text,) = self._records.read(job_key(job_id))
        return _is_over(job_id, text)

    def newest(self, caller: str | None = None, *, until: float = inf) -> Iterator[JobStatus]:
        """All jobs, or those of one caller, the newest first; those submitted at `until` or before.

        They are read as they are consumed: `PAGE` of them at a time. Of a status that this version
        cannot read there is the outline.
        """
        return chain.from_iterable(map(self._outlines, self._pages(caller, until)))

    def _outlines(self, job_ids: Sequence[str]) -> Iterator[JobStatus]:
        """The statuses of those jobs that there are, read in one request."""
        for job_id, text in zip(job_ids, self.texts(job_ids), strict=True):
            if text is not None:
                yield outline(job_id, text)

    def ids(self, caller: str | None = None) -> Iterator[str]:
        """Their ids alone."""
        return chain.from_iterable(self._pages(caller, inf))

    def _pages(self, caller: str | None, until: float) -> Iterator[list[str]]:
        """Ids of all jobs, or those of one caller, up to a time; the newest first."""
        index = JOBS if caller is None else jobs_of(caller)
        for start in count(0, PAGE):
            job_ids = self._backend.newest_members(index, start, PAGE, high=until)
            yield job_ids
            if len(job_ids) < PAGE:
                return

    def live(self) -> list[str]:
        """Ids of all jobs that have not ended, or have not been closed."""
        return self._backend.members_below(LIVE, inf)

    def orphaned(self) -> list[str]:
        """Ids of live jobs whose step is covered by neither a lease nor a dispatched message."""
        return self._backend.members_below(LIVE, self._backend.now())

    def standing_still(self, *, for_s: float) -> list[str]:
        """Ids of live jobs that for so long neither a worker nor a message has covered: a reaper
        dispatches them within seconds. The first `PAGE` are looked at.
        """
        before = self._backend.now() - for_s
        job_ids = self._backend.members_below(LIVE, before)[:PAGE]
        found = zip(job_ids, self.texts(job_ids), strict=True)
        known = (outline(job_id, text) for job_id, text in found if text)
        return [status.job_id for status in known if status.updated_at < before]

    def close(self, job_id: str) -> None:
        """Removes a job from the live ones, once its end is stored and reported."""
        self._backend.remove_member(LIVE, job_id)

    def report(self, *events: Event) -> None:
        """Advances a job by events of it, in one request.

        Raises Cancelled if it has ended or is not known any more.
        """
        last = events[-1]
        if not self._records.change_all(self.report_change(*events)):
            raise Cancelled(
                f"job {last.job_id} has ended, or the broker has lost it; "
                f"{last.stage} is interrupted"
            )

    def report_change(self, *events: Event) -> Change[StatusRecord]:
        """The change that advances a job by events of it; it refuses a job that has ended."""
        *passed, last = events

        def advanced(status: JobStatus) -> dict[str, Any]:
            warned = (event.warnings for event in reversed(events))
            return {
                "state": "running",
                "started_at": status.started_at or self._backend.now(),
                "stage": last.stage,
                "pct": max(status.pct, *(event.pct for event in events)),
                "details": last.details,
                "warnings": next(filter(None, warned), status.warnings),
            }

        return self._change_of(last.job_id, advanced, parse=parse_status, passed=passed)

    def events(self, job_id: str, *, wait_s: float = 1.0) -> Iterator[Event]:
        """Every event of a job, from its first to its last; waits for those to come."""
        position = "0"
        while True:
            ended = self.status(job_id).ended
            # An ended job has no event to come; looking once more catches those written meanwhile.
            found = self.events_after(job_id, position, wait_s=0 if ended else wait_s)
            for position, event in found:  # noqa: B007  # the last position is where to go on
                yield event
                if event.stage in LAST_STAGES:
                    return
            if ended and not found:
                return

    def events_after(
        self, job_id: str, position: str, *, wait_s: float = 0
    ) -> list[tuple[str, Event]]:
        """The next events of a job after a position, "0" for the first ones, each with its own."""
        found = self._backend.read_after(events_key(job_id), position, wait_s)
        name = f"job {job_id}: an event"
        return [(position, load(text, Event, name=name)) for position, text in found]

    def end(self, job_id: str, state: State, result: Result) -> bool:
        """Ends a job; False if it had ended already. It stays live until it is closed."""
        return bool(self._records.change_all(self.end_change(job_id, state, result)))

    def end_change(
        self, job_id: str, state: State, result: Result, passed: Sequence[Event] = ()
    ) -> Change[StatusRecord]:
        """The change that ends a job, behind events on the way there; it refuses one that has
        ended.
        """

        def ended(status: JobStatus) -> dict[str, Any]:
            if state == "success":
                return {
                    "state": state,
                    "stage": "completed",
                    "pct": float(STAGES["completed"]),
                    "details": {},
                    "warnings": result.warnings,
                    "result": result,
                }
            details = {}
            if result.error is not None:
                details = {"code": result.error.code, "message": result.error.message}
            return {"state": state, "stage": state, "details": details, "result": result}

        return self._change_of(job_id, ended, parse=outline, passed=passed)

    def end_text(self, job_id: str) -> str | None:
        """The record of a job that has ended, also one of another version; None otherwise."""
        (text,) = self._records.read(job_key(job_id))
        return text if text is not None and outline(job_id, text).ended else None

    def fail(self, job_id: str, error: FarmError, *, at_stage: str) -> bool:
        """Ends a job with an error, or as cancelled; False if it had ended already."""
        state: State = "cancelled" if isinstance(error, Cancelled) else "error"
        failure = Failure.model_validate(error.describe(at_stage=at_stage))
        return self.end(job_id, state, Result(job_id=job_id, status="error", error=failure))

    def cancel(self, job_id: str, *, by: str) -> bool:
        """Ends a job; its running step stops at its next report. False if it had ended already."""
        stage = self.status(job_id).stage
        return self.fail(job_id, Cancelled(f"cancelled by {by} at {stage}"), at_stage=stage)

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

    def _change_of(
        self,
        job_id: str,
        fields: Callable[[JobStatus], dict[str, Any]],
        *,
        parse: Callable[[str, str], JobStatus],
        passed: Sequence[Event],
    ) -> Change[StatusRecord]:
        """A change of a job's status that appends its event, behind those on the way there.

        It refuses a job that has ended or is unknown.
        """
        now = self._backend.now()

        def rule(record: StatusRecord) -> StatusRecord | None:
            status = record.status
            if status is None or status.ended:
                return None
            return StatusRecord(
                status.model_copy(update={**fields(status), "updated_at": now}),
                [_not_before(event, status.pct) for event in passed],
            )

        return Change(
            job_key(job_id),
            parse=lambda text: StatusRecord(parse(job_id, text) if text else None),
            rule=rule,
            effects=_effects_of,
        )


def parse_request(job_id: str, text: str) -> ResolvedRequest:
    """The request in a text; VersionSkew if it is unreadable."""
    return load(text, ResolvedRequest, name=f"job {job_id}: its request")


def _readable_requests(
    found: Iterable[tuple[str, str | None]],
) -> Iterator[tuple[str, ResolvedRequest]]:
    for job_id, text in found:
        with suppress(VersionSkew):
            if text is not None:
                yield job_id, parse_request(job_id, text)


def _is_over(job_id: str, text: str | None) -> bool:
    """Whether a job with the text of that status has ended, or is not known any more."""
    return text is None or outline(job_id, text).ended


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


def _not_before(event: Event, pct: float) -> Event:
    """An event whose progress is not behind what was reported."""
    return event.model_copy(update={"pct": max(pct, event.pct)})


def _event_of(status: JobStatus) -> Append:
    return Append(events_key(status.job_id), dump(status.event()))


def _effects_of(record: StatusRecord) -> Effects:
    status = record.status
    if status is None:
        return ()
    passed = [Append(events_key(status.job_id), dump(event)) for event in record.passed]
    events = [*passed, _event_of(status)]
    if not status.ended:
        return events
    outcome = f"{status.state} {status.details.get('code', '')}".strip()
    return [
        *events,
        Score(LIVE, status.job_id, 0),
        Increment(ENDED, outcome),
        Increment(ended_of(status.caller), outcome),
        Remove(REMAINING, status.job_id),
        Remove(remaining_of(status.caller), status.job_id),
        *_result_effects(status),
    ]


def _result_effects(status: JobStatus) -> Iterator[Effect]:
    """The write that counts the bytes of a result."""
    if status.result and status.result.artifacts:
        size = sum(artifact.bytes for artifact in status.result.artifacts)
        yield Add(results_of(status.caller), status.job_id, size)
