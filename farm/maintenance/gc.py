"""What nobody needs any more, in the store, in the registry and on this machine.

Never touched are: what is current, what a worker may still make current, and a job that the registry has lost, for it
may come back (`farm recover`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Literal

from farm.engine import journal, scratch
from farm.engine.context import Context
from farm.engine.route import FIRST, LAST, NOTIFY, Step, following
from farm.job import JobStatus
from farm.store import Store, keys

Reason = Literal["overtaken", "intermediate", "expired", "abandoned"]


@dataclass(frozen=True)
class Waste:
    """Things under one `name` that can go: `overtaken` attempts, what a finished video was made of (`intermediate`),
    jobs whose time is over (`expired`), scratch folders of dead workers (`abandoned`).
    """

    reason: Reason
    name: str
    objects: int
    bytes: int
    remove: Callable[[], None]


def waste(ctx: Context) -> Iterator[Waste]:
    """All that can go; what is removed in between is not found again."""
    for job_id, names in journal.jobs(ctx.store):
        if ctx.registry.knows(job_id):
            yield from _of_job(ctx, ctx.registry.job(job_id), names)
        elif keys.request(job_id) not in names:  # what is left of an expired job, for without a request none comes back
            yield _objects(ctx.store, "expired", keys.job(job_id), names)
    for folder in scratch.abandoned():
        yield Waste("abandoned", str(folder), 1, scratch.size(folder), partial(scratch.remove, folder))


def _of_job(ctx: Context, status: JobStatus, names: list[str]) -> Iterator[Waste]:
    settings, since_s = ctx.settings, max(0.0, ctx.registry.ledger.now() - status.updated_at)
    goes_on = keys.end(status.job_id) not in names  # or nobody has written down yet how it ended
    if goes_on or journal.untold(ctx, status.job_id):
        yield from _overtaken(ctx, status.job_id, names)
    elif settings.keep_jobs_s is not None and since_s >= settings.keep_jobs_s:
        yield _expired(ctx, status.job_id, names)
    elif since_s >= settings.keep_intermediates_s:
        yield from _intermediates(ctx, status.job_id, names)
    else:
        yield from _overtaken(ctx, status.job_id, names)


def _overtaken(ctx: Context, job_id: str, names: list[str]) -> Iterator[Waste]:
    """Each attempt at a product that another attempt made."""
    for attempt, written in groupby(names, key=keys.attempt_of):
        if attempt and ctx.registry.overtaken(job_id, *attempt):
            # What makes an attempt complete goes first, or half of it could be taken for all.
            doomed = sorted(written, key=lambda key: not key.endswith(f"/{keys.OUTPUT}"))
            yield _objects(ctx.store, "overtaken", keys.attempt(job_id, *attempt, ""), doomed)


def _intermediates(ctx: Context, job_id: str, names: list[str]) -> Iterator[Waste]:
    """All of a job that has ended but its request, its end, its video and what became of its webhook; the playlist,
    which names the rest, first.
    """
    kept = {keys.request(job_id), keys.end(job_id), *(key for key in names if _stays(ctx, job_id, key))}
    doomed = sorted(set(names) - kept, key=lambda key: (key != keys.playlist(job_id), key))
    if doomed:
        yield _objects(ctx.store, "intermediate", keys.job(job_id), doomed)


def _expired(ctx: Context, job_id: str, names: list[str]) -> Waste:
    """A whole job. Its end goes last: as long as that is there, the job neither comes back nor is forgotten half."""
    found = _objects(ctx.store, "expired", keys.job(job_id), names)
    step_ids = list(_products(ctx, job_id))[::-1]  # backwards, for `embed` tells how many there are

    def remove() -> None:
        for key in names:
            if key != keys.end(job_id):
                ctx.store.delete(key)
        ctx.registry.forget(job_id, step_ids)
        ctx.store.delete(keys.end(job_id))

    return replace(found, remove=remove)


def _stays(ctx: Context, job_id: str, key: str) -> bool:
    """Whether a key is of the video, or of the word that its webhook was called: else it would be called again."""
    attempt = keys.attempt_of(key)
    staying = (LAST.id, NOTIFY.id)
    return bool(attempt and attempt.step_id in staying and not ctx.registry.overtaken(job_id, *attempt))


def _products(ctx: Context, job_id: str) -> Iterator[str]:
    chunks = (ctx.registry.output(job_id, "embed") or {}).get("chunks", 1)
    step: Step | None = FIRST
    while step:
        yield step.id
        step = following(step, chunks=chunks)
    yield NOTIFY.id


def _objects(store: Store, reason: Reason, name: str, doomed: list[str]) -> Waste:
    def remove() -> None:
        for key in doomed:
            store.delete(key)

    return Waste(reason, name, len(doomed), sum(store.size(key) or 0 for key in doomed), remove)
