"""What the store alone tells of jobs: which were entered, what they are made of, how they ended.

An attempt writes its goods down last, before they may become current. Of all attempts at a product the one with the
highest number wins, unless the broker was lost in between; so what a later product was made of is what counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import groupby
from typing import Any, get_args

from farm.engine.context import Context
from farm.engine.playlist import publish
from farm.engine.route import NOTIFY, Step, StepKind
from farm.errors import FarmError
from farm.job import JobRequest, JobStatus
from farm.logs import log
from farm.store import Store, keys
from farm.store.keys import Attempt

STEP_KINDS = get_args(StepKind)


def enter(ctx: Context, job_id: str, request: JobRequest) -> None:
    """Writes a job's request and the time of its entry down, unless that was done before."""
    entered_at = ctx.registry.ledger.now()  # asked first: a broker that is away leaves nothing behind
    if ctx.store.size(keys.request(job_id)) is None:
        entry = {"entered_at": entered_at, "request": request.model_dump(mode="json")}
        ctx.store.put(keys.request(job_id), json.dumps(entry).encode())


def entry(store: Store, job_id: str) -> tuple[JobRequest, float]:
    """A job's request and when it was entered; KeyError or ValueError where that cannot be read."""
    found = json.loads(store.get(keys.request(job_id)))
    return JobRequest.model_validate_json(json.dumps(found["request"])), float(found["entered_at"])


def close(ctx: Context, job_id: str) -> bool:
    """Closes the playlist of a job that has ended, and writes the end down; until that is done the reaper calls it.

    True if the end is then still to be told to its webhook: so long the job stays on the reaper's list.
    """
    try:
        status, (facts,) = ctx.registry.look(job_id, ["embed"])
        if not (publish(ctx, job_id, (facts or {}).get("chunks", 0)) and status.ended):
            return False
        ctx.store.put(keys.end(job_id), status.model_dump_json().encode())
        if untold(ctx, job_id):
            return True
        ctx.registry.close(job_id)
    except FarmError as error:
        log("end_not_written", job_id=job_id, code=error.code, reason=error.message)
    return False


def untold(ctx: Context, job_id: str) -> bool:
    """Whether a job has a webhook that was neither called nor given up."""
    return bool(ctx.registry.request(job_id).webhook) and ctx.registry.output(job_id, NOTIFY.id) is None


def end(store: Store, job_id: str) -> JobStatus | None:
    """A job's last status; None if it has not ended. ValueError where that cannot be read."""
    try:
        return JobStatus.model_validate_json(store.get(keys.end(job_id)))
    except KeyError:
        return None


def jobs(store: Store) -> Iterator[tuple[str, list[str]]]:
    """Every job's id with all of its keys."""
    for job_id, names in groupby(store.keys(keys.JOBS), key=lambda key: key.split("/")[1]):
        yield job_id, list(names)


def attempts(names: Iterable[str]) -> list[Attempt]:
    """The attempts that wrote keys, the furthest product first, and of each product the last attempt first."""
    return sorted({attempt for key in names if (attempt := keys.attempt_of(key))}, key=_way, reverse=True)


def complete(names: Iterable[str]) -> list[Attempt]:
    """Those attempts that have written all of their goods, in the same order."""
    return attempts(key for key in names if key.endswith(f"/{keys.OUTPUT}"))


def output(store: Store, job_id: str, attempt: Attempt) -> dict[str, Any]:
    """All that an attempt hands in; KeyError if it did not come to its end."""
    found: dict[str, Any] = json.loads(store.get(keys.attempt(job_id, *attempt, keys.OUTPUT)))
    return found


def made(store: Store, job_id: str, names: Iterable[str]) -> dict[Attempt, dict[str, Any]]:
    """The goods of the furthest product and of everything that it was made of, the furthest first."""
    for attempt in complete(names):
        if attempt.step_id == NOTIFY.id:  # it is made of nothing
            continue
        with suppress(KeyError):  # something that it was made of is gone
            return _with_sources(store, job_id, attempt)
    return {}


def _with_sources(store: Store, job_id: str, attempt: Attempt) -> dict[Attempt, dict[str, Any]]:
    found: dict[Attempt, dict[str, Any]] = {}
    wanted = {attempt}
    while wanted:
        next_one = max(wanted, key=_way)
        found[next_one] = output(store, job_id, next_one)
        wanted |= {Attempt(*source) for source in found[next_one]["made_of"].items()}
        wanted -= found.keys()
    return found


def _way(attempt: Attempt) -> tuple[int, int, int]:
    """Where an attempt is on the way of a job."""
    step = Step.parse(attempt.step_id)
    return STEP_KINDS.index(step.kind), step.chunk, attempt.number
