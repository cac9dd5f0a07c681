"""What the store alone knows of jobs: their requests, the outputs of their steps, their ends.

An attempt stores its output last, before it may be committed. Of all attempts at a step the one
with the highest fencing token wins, unless the broker was lost in between; then the inputs of a
later step's output say which one counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import groupby

from pydantic import BaseModel, ConfigDict

from farm.caller import LOCAL, CallerName
from farm.engine.context import Context
from farm.engine.playlist import publish
from farm.errors import CorruptObject, FarmError, VersionSkew
from farm.job import JobStatus, ResolvedRequest, TimeLimits
from farm.job.time_limits import NO_LIMITS
from farm.logs import log
from farm.registry.attempt_id import fence_of
from farm.registry.formats import AnyRecord, dump, load
from farm.registry.outputs import Committed, chunks_of
from farm.route import EMBED, NOTIFY, Step
from farm.store import Store, integrity, keys
from farm.store.keys import AttemptKey

Outputs = dict[AttemptKey, Committed]
"""Outputs by the attempt that left them, the furthest step first."""


class Submission(BaseModel):
    """A request as it was accepted, of whom and when (seconds since 1970)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    caller: CallerName
    submitted_at: float
    request: ResolvedRequest
    limits: TimeLimits = NO_LIMITS


def record_request(
    ctx: Context,
    job_id: str,
    request: ResolvedRequest,
    caller: str = LOCAL,
    limits: TimeLimits = NO_LIMITS,
) -> None:
    """Stores the request of a job, whose it is, the time of its submission and its limits."""
    submitted_at = ctx.registry.now()  # first, so that an unreachable broker leaves nothing behind
    submission = Submission(
        caller=caller, submitted_at=submitted_at, request=request, limits=limits
    )
    integrity.put_sealed(ctx.store, keys.request(job_id), dump(submission).encode())


def withdraw_request(ctx: Context, job_id: str) -> None:
    """Removes the request of a job that was not entered."""
    ctx.store.delete(keys.request(job_id))


def discard_deleted(ctx: Context, job_id: str) -> None:
    """Removes what a step has stored of a job that was deleted meanwhile.

    A job that only the registry has lost still has its request, and may be recovered. Without
    broker or store it is left to `farm gc`.
    """
    try:
        if ctx.registry.jobs.exists(job_id) or ctx.store.size(keys.request(job_id)) is not None:
            return
        for key in list(ctx.store.keys(keys.job(job_id))):
            ctx.store.delete(key)
    except FarmError as error:
        log("deleted_job_left", job_id=job_id, reason=error.message)


def read_request(store: Store, job_id: str) -> Submission:
    """The request of a job.

    Raises KeyError if there is none, CorruptObject, and VersionSkew if it is unreadable.
    """
    return _read(store, keys.request(job_id), Submission)


def close_job(ctx: Context, job_id: str) -> bool:
    """Closes the playlist of a job that has ended and stores the end; repeated by the reaper until
    it succeeds.

    True if the webhook is then still pending; the job stays live for as long.
    """
    try:
        try:
            return _close_readable(ctx, job_id)
        except VersionSkew:
            return _close_unreadable(ctx, job_id)
    except FarmError as error:
        log("job_end_not_stored", job_id=job_id, code=error.code, reason=error.message)
    return False


def _close_readable(ctx: Context, job_id: str) -> bool:
    embedded = ctx.registry.steps.last_record(job_id, EMBED.id).committed
    published = publish(ctx, job_id, chunks_of(embedded))
    status = ctx.registry.jobs.last_status(job_id)
    if not (published and status.ended):
        return False
    integrity.put_sealed(ctx.store, keys.end(job_id), dump(status).encode())
    if webhook_pending(ctx, job_id):
        return True
    ctx.registry.jobs.close(job_id)
    return False


def _close_unreadable(ctx: Context, job_id: str) -> bool:
    """Stores the end as it is, of any version; its webhook cannot be called."""
    end = ctx.registry.jobs.end_text(job_id)
    if end is not None:
        integrity.put_sealed(ctx.store, keys.end(job_id), end.encode())
        ctx.registry.jobs.close(job_id)
    return False


def webhook_pending(ctx: Context, job_id: str) -> bool:
    """Whether a job has a webhook that was neither delivered nor given up."""
    if not ctx.registry.jobs.request(job_id).webhook:
        return False
    return ctx.registry.steps.committed(job_id, NOTIFY.id) is None


def read_end(store: Store, job_id: str) -> JobStatus | None:
    """The last status of a job; None if it has not ended.

    Raises CorruptObject, and VersionSkew if it is unreadable.
    """
    try:
        return _read(store, keys.end(job_id), JobStatus)
    except KeyError:
        return None


def stored_jobs(store: Store) -> Iterator[tuple[str, list[str]]]:
    """The id of every job with all of its keys."""
    for job_id, job_keys in groupby(store.keys(keys.JOBS), key=lambda key: key.split("/")[1]):
        yield job_id, list(job_keys)


def stored_attempts(job_keys: Iterable[str]) -> list[AttemptKey]:
    """The attempts that wrote keys: the furthest step first, and of each the last attempt."""
    parsed = {keys.attempt_of(key) for key in job_keys}
    attempts = [attempt for attempt in parsed if attempt is not None]
    return sorted(attempts, key=_progress, reverse=True)


def completed_attempts(job_keys: Iterable[str]) -> list[AttemptKey]:
    """The attempts that stored their output, in the same order."""
    return stored_attempts(key for key in job_keys if key.endswith(f"/{keys.OUTPUT}"))


def read_output(store: Store, job_id: str, attempt: AttemptKey) -> Committed:
    """The output of an attempt; KeyError if it stored none.

    Raises CorruptObject, and VersionSkew if it is unreadable.
    """
    return _read(store, keys.attempt(job_id, *attempt, keys.OUTPUT), Committed)


def restorable_outputs(store: Store, job_id: str, job_keys: Iterable[str]) -> Outputs:
    """The output of the furthest step that is complete, with all of its inputs."""
    for attempt in completed_attempts(job_keys):
        if attempt.step_id == NOTIFY.id:  # it has no inputs
            continue
        with suppress(KeyError, CorruptObject):  # it, or one of its inputs, is gone or damaged
            return _with_inputs(store, job_id, attempt)
    return {}


def _with_inputs(store: Store, job_id: str, attempt: AttemptKey) -> Outputs:
    found: Outputs = {}
    wanted = {attempt}
    while wanted:
        furthest = max(wanted, key=_progress)
        committed = read_output(store, job_id, furthest)
        found[furthest] = committed
        wanted |= {AttemptKey(*each) for each in committed.inputs.items()}
        wanted -= found.keys()
    return found


def _progress(attempt: AttemptKey) -> tuple[int, int, int]:
    """How far an attempt is on the way of a job."""
    return *Step.parse(attempt.step_id).position, fence_of(attempt.attempt_id)


def _read(store: Store, key: str, kind: type[AnyRecord]) -> AnyRecord:
    return load(integrity.get_sealed(store, key), kind, name=key)
