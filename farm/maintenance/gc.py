"""Garbage: what no job needs any more, in the store, in the registry and on this machine.

Never touched: committed outputs of live jobs, attempts that may still commit, and jobs that the
registry has lost, since `farm recover` may bring them back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from math import inf
from typing import Literal

from farm.engine import journal, scratch
from farm.engine.context import Context
from farm.engine.retention import expired_keys
from farm.errors import VersionSkew
from farm.job import JobStatus
from farm.logs import log
from farm.maintenance.removal import remove_job
from farm.route import MUX, NOTIFY
from farm.store import Store, keys

Reason = Literal["superseded", "intermediate", "expired", "abandoned"]


@dataclass(frozen=True)
class Garbage:
    """Objects under one `name` that can be removed.

    superseded: attempts; intermediate: what a finished video was made from; expired: jobs, batches,
    uploads and shared features past their retention; abandoned: scratch folders of dead workers.
    """

    reason: Reason
    name: str
    objects: int
    bytes: int
    remove: Callable[[], None]


def find_garbage(ctx: Context) -> Iterator[Garbage]:
    """Everything that can be removed; what is removed in between is not found again."""
    live_since = inf
    for job_id, job_keys in journal.stored_jobs(ctx.store):
        if ctx.registry.jobs.exists(job_id):
            try:
                status = ctx.registry.jobs.status(job_id)
                if not status.ended:
                    live_since = min(live_since, status.created_at)
                yield from _garbage_of_job(ctx, status, job_keys)
            except VersionSkew as error:  # what the job needs is not known
                live_since = 0.0
                log("gc_skipped", job_id=job_id, reason=error.message)
        elif keys.request(job_id) not in job_keys:
            # The rest of an expired job: without its request no job can be recovered.
            yield _objects(ctx.store, "expired", keys.job(job_id), job_keys)
    for prefix in (keys.UPLOADS, keys.SHARED):
        doomed = expired_keys(ctx, prefix, live_since=live_since)
        if doomed:
            yield _objects(ctx.store, "expired", prefix, doomed)
    yield from _batches(ctx)
    for folder in scratch.abandoned():
        size = scratch.size(folder)
        yield Garbage("abandoned", str(folder), 1, size, partial(scratch.remove, folder))


def _batches(ctx: Context) -> Iterator[Garbage]:
    """Records of batches all of whose jobs have expired."""
    if ctx.settings.keep_jobs_s is None:
        return
    for batch_id in ctx.registry.batches.older_than(ctx.settings.keep_jobs_s):
        batch = ctx.registry.batches.read(batch_id)
        if batch is None or not any(map(ctx.registry.jobs.exists, batch.job_ids)):
            forget = partial(ctx.registry.batches.forget, batch_id)
            yield Garbage("expired", f"batch {batch_id}", 0, 0, forget)


def _garbage_of_job(ctx: Context, status: JobStatus, job_keys: list[str]) -> Iterator[Garbage]:
    job_id = status.job_id
    settings = ctx.settings
    ended_since_s = max(0.0, ctx.registry.now() - status.updated_at)
    end_is_stored = keys.end(job_id) in job_keys
    if not end_is_stored or journal.webhook_pending(ctx, job_id):
        yield from _superseded(ctx, job_id, job_keys)
    elif settings.keep_jobs_s is not None and ended_since_s >= settings.keep_jobs_s:
        yield _expired(ctx, job_id, job_keys)
    elif ended_since_s >= settings.keep_intermediates_s:
        yield from _intermediates(ctx, job_id, job_keys)
    else:
        yield from _superseded(ctx, job_id, job_keys)


def _superseded(ctx: Context, job_id: str, job_keys: list[str]) -> Iterator[Garbage]:
    for attempt, attempt_keys in groupby(job_keys, key=keys.attempt_of):
        if attempt and ctx.registry.steps.is_superseded(job_id, *attempt):
            # The output goes first, or half an attempt could be taken for a complete one.
            doomed = sorted(attempt_keys, key=lambda key: not key.endswith(f"/{keys.OUTPUT}"))
            yield _objects(ctx.store, "superseded", keys.attempt(job_id, *attempt, ""), doomed)


def _intermediates(ctx: Context, job_id: str, job_keys: list[str]) -> Iterator[Garbage]:
    """Everything of an ended job but its request, its end, its video and its webhook's delivery.

    The playlist goes first, because it names the rest.
    """
    kept = {keys.request(job_id), keys.end(job_id)}
    kept.update(key for key in job_keys if _is_kept(ctx, job_id, key))
    doomed = sorted(set(job_keys) - kept, key=lambda key: (key != keys.playlist(job_id), key))
    if doomed:
        yield _objects(ctx.store, "intermediate", keys.job(job_id), doomed)


def _is_kept(ctx: Context, job_id: str, key: str) -> bool:
    """Whether a key belongs to the video, or to the delivery of the webhook, which must not be
    repeated.
    """
    attempt = keys.attempt_of(key)
    if attempt is None or attempt.step_id not in (MUX.id, NOTIFY.id):
        return False
    return not ctx.registry.steps.is_superseded(job_id, *attempt)


def _expired(ctx: Context, job_id: str, job_keys: list[str]) -> Garbage:
    """A whole job."""
    found = _objects(ctx.store, "expired", keys.job(job_id), job_keys)
    return replace(found, remove=partial(remove_job, ctx, job_id, job_keys))


def _objects(store: Store, reason: Reason, name: str, doomed: list[str]) -> Garbage:
    def remove() -> None:
        for key in doomed:
            store.delete(key)

    size = sum(store.size(key) or 0 for key in doomed)
    return Garbage(reason, name, len(doomed), size, remove)
