"""The jobs of a farm: requests, statuses and events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import chain, count
from math import inf
from typing import Any

from farm.errors import Cancelled, FarmError, VersionSkew
from farm.job import (
    STAGES,
    Event,
    Failure,
    JobStatus,
    ResolvedRequest,
    Result,
    State,
)
from farm.registry.backend import Add, Append, Effect, Effects, Increment, Remove, Score
from farm.registry.formats import dump, load
from farm.registry.keys import (
    ENDED,
    JOBS,
    LIVE,
    REMAINING,
    ended_of,
    events_key,
    job_key,
    jobs_of,
    remaining_of,
    request_key,
    results_of,
)
from farm.registry.records import CACHE_SIZE, Change, RecordStore
from farm.registry.status_record import (
    StatusRecord,
    outline,
    parse_status,
    unknown_job,
)

LAST_STAGES = ("completed", "error", "cancelled")
"""A job's last event has one of these stages."""

PAGE = 100
"""Jobs that are listed with one request."""


class JobRegistry:
    """The requests, statuses and events of jobs that were entered (`farm.registry.entries`)."""

    def __init__(self, records: RecordStore) -> None:
        self._records = records
        self._backend = records.backend
        self._cached_request = lru_cache(CACHE_SIZE)(self._read_request)

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
        if not self._records.change(self.report_change(*events)):
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
        return self._records.change(self.end_change(job_id, state, result)) is not None

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


def _not_before(event: Event, pct: float) -> Event:
    """An event whose progress is not behind what was reported."""
    return event.model_copy(update={"pct": max(pct, event.pct)})


def event_of(status: JobStatus) -> Append:
    return Append(events_key(status.job_id), dump(status.event()))


def _effects_of(record: StatusRecord) -> Effects:
    status = record.status
    if status is None:
        return ()
    passed = [Append(events_key(status.job_id), dump(event)) for event in record.passed]
    events = [*passed, event_of(status)]
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
        *result_effects(status),
    ]


def result_effects(status: JobStatus) -> Iterator[Effect]:
    """The write that counts the bytes of a result."""
    if status.result and status.result.artifacts:
        size = sum(artifact.bytes for artifact in status.result.artifacts)
        yield Add(results_of(status.caller), status.job_id, size)
