"""The registry made again from the store, job by job, when the broker has lost everything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from farm.engine import journal
from farm.engine.attempt import due
from farm.engine.context import Context
from farm.engine.route import FIRST, LAST, NOTIFY, Step, following
from farm.job import JobRequest, JobStatus
from farm.registry import queued
from farm.store.keys import Attempt

Made = dict[Attempt, dict[str, Any]]


@dataclass(frozen=True)
class Recovered:
    """What became of one job: it `goes on` at a product, it `had ended`, it was `known`, or it is `unreadable`."""

    job_id: str
    outcome: Literal["goes on", "had ended", "known", "unreadable"]
    reason: str | None = None
    """The product that it goes on at, how it had ended, or why it cannot be read."""
    kept: int = 0
    """How many products need not be made again."""
    step: Step | None = None
    """What is the caller's to send now."""


def recover(ctx: Context, job_id: str, names: Iterable[str]) -> Recovered:
    """Enters a job of which the store holds these keys, unless the registry knows it.

    The job itself is entered after all that belongs to it, so whoever is interrupted may begin again.
    """
    if ctx.registry.knows(job_id):
        return Recovered(job_id, "known")
    try:
        request, entered_at = journal.entry(ctx.store, job_id)
        ended = journal.end(ctx.store, job_id)
    except (KeyError, TypeError, ValueError) as error:
        return Recovered(job_id, "unreadable", reason=f"{type(error).__name__}: {error}".splitlines()[0])
    if request.idempotency_key:
        ctx.registry.claim(request.idempotency_key, job_id)
    if ended:
        return _restore_ended(ctx, ended, request, names)
    return _restore_live(ctx, job_id, entered_at, request, names)


def _restore_ended(ctx: Context, ended: JobStatus, request: JobRequest, names: Iterable[str]) -> Recovered:
    """Enters a job that had ended, with its video and with what is left of its other products."""
    job_id, names = ended.job_id, list(names)
    made = {**_last(ctx, job_id, names, LAST), **journal.made(ctx.store, job_id, names)}
    told = _last(ctx, job_id, names, NOTIFY)
    _remember(ctx, job_id, {**made, **told})
    untold = bool(request.webhook) and not told
    if untold:
        _fence_off(ctx, job_id, {NOTIFY.id})
    ctx.registry.restore(ended, request, untold=untold)
    return Recovered(job_id, "had ended", reason=ended.state, kept=len(made), step=due(ctx, job_id) if untold else None)


def _last(ctx: Context, job_id: str, names: Iterable[str], step: Step) -> Made:
    """The goods of the last complete attempt at a step."""
    last = [attempt for attempt in journal.complete(names) if attempt.step_id == step.id][:1]
    return {attempt: journal.output(ctx.store, job_id, attempt) for attempt in last}


def _restore_live(ctx: Context, job_id: str, entered_at: float, request: JobRequest, names: Iterable[str]) -> Recovered:
    """Enters a job that goes on behind its furthest product."""
    names = list(names)
    made = journal.made(ctx.store, job_id, names)
    furthest, after = next(iter(made), None), _after(made)
    _remember(ctx, job_id, made)
    begun = {attempt.step_id for attempt in journal.attempts(names)} | ({after.id} if after else set())
    _fence_off(ctx, job_id, begun - {attempt.step_id for attempt in made})
    ctx.registry.restore(queued(job_id, entered_at), request, at=furthest and furthest.step_id)
    step = due(ctx, job_id)
    if after is None:
        return Recovered(job_id, "had ended", reason=ctx.registry.job(job_id).state, kept=len(made), step=step)
    return Recovered(job_id, "goes on", reason=after.id, kept=len(made), step=step)


def _after(made: Made) -> Step | None:
    """What comes after the furthest product; None if that is the last."""
    if not made:
        return FIRST
    chunks = next((output["chunks"] for attempt, output in made.items() if attempt.step_id == "embed"), 1)
    return following(Step.parse(next(iter(made)).step_id), chunks=chunks)


def _remember(ctx: Context, job_id: str, made: Made) -> None:
    for attempt, output in made.items():
        ctx.registry.restore_output(job_id, attempt.step_id, fence=attempt.number, output=output)


def _fence_off(ctx: Context, job_id: str, step_ids: set[str]) -> None:
    """Gives products a fence that no attempt has had, for workers of before may still be at them.

    The milliseconds since 1970 are one: attempts are counted up from 1, or from the milliseconds of an earlier time.
    """
    for step_id in step_ids:
        ctx.registry.restore_output(job_id, step_id, fence=round(1000 * ctx.registry.ledger.now()))
