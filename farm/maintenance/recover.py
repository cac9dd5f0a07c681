"""Recovery of the registry from the store, job by job: of what the broker has lost, all or some."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from farm.engine import journal
from farm.engine.accounting import demand_of
from farm.engine.advance import claim_due_step
from farm.engine.context import Context
from farm.engine.journal import Outputs, Submission
from farm.errors import CorruptObject, InvalidInput, VersionSkew
from farm.job import JobStatus
from farm.registry.attempt_id import make_attempt_id, random_part
from farm.registry.outputs import chunks_of
from farm.registry.status_record import queued
from farm.route import DOWNLOAD, EMBED, MUX, NOTIFY, Step, next_step
from farm.store import Store, keys


@dataclass(frozen=True)
class Recovered:
    """What became of one job."""

    job_id: str
    outcome: Literal["resumed", "already_ended", "repaired", "known", "unreadable"]
    reason: str | None = None
    """The step that it resumes with, how it had ended, what was lost, or why it is unreadable."""
    kept: int = 0
    """Steps that are not run again."""
    step: Step | None = None
    """The step that the caller must now dispatch."""


def recover(ctx: Context, job_id: str, job_keys: Iterable[str]) -> Recovered:
    """Enters what the registry lacks of a job of which the store holds these keys.

    The job itself is entered after all its records, so an interrupted recovery can be repeated.
    """
    job_keys = list(job_keys)
    is_known = ctx.registry.jobs.exists(job_id)
    try:
        lost = _lost_parts(ctx, job_id, job_keys) if is_known else []
        if is_known and not lost:
            return Recovered(job_id, "known")
        stored = _read_stored(ctx.store, job_id, job_keys)
    except (CorruptObject, VersionSkew) as error:
        return Recovered(job_id, "unreadable", reason=error.message)
    except (LookupError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return Recovered(job_id, "unreadable", reason=reason)
    if is_known:
        return _repair(ctx, job_id, stored, lost)
    if stored.end:
        return _restore_ended(ctx, stored, stored.end)
    return _restore_live(ctx, job_id, stored)


@dataclass(frozen=True)
class _StoredJob:
    """What the store knows of a job."""

    submitted: Submission
    end: JobStatus | None
    outputs: Outputs
    """Outputs of steps that need not be run again."""
    notified: Outputs
    """The delivery of the webhook, if it is over."""
    begun: set[str]
    """Ids of the steps of which there are attempts."""
    after: Step | None
    """The step after the furthest output; None if that is the last."""


def _read_stored(store: Store, job_id: str, job_keys: list[str]) -> _StoredJob:
    """Raises LookupError, TypeError, ValueError or VersionSkew if anything that is needed is
    unreadable.
    """
    submitted = journal.read_request(store, job_id)
    end = journal.read_end(store, job_id)
    outputs = journal.restorable_outputs(store, job_id, job_keys)
    after = _step_after(outputs)
    if end:
        # The video is left when the outputs that it was made from are gone.
        outputs = {**_last_output(store, job_id, job_keys, MUX), **outputs}
    return _StoredJob(
        submitted=submitted,
        end=end,
        outputs=outputs,
        notified=_last_output(store, job_id, job_keys, NOTIFY),
        begun={attempt.step_id for attempt in journal.stored_attempts(job_keys)},
        after=after,
    )


def _lost_parts(ctx: Context, job_id: str, job_keys: list[str]) -> list[str]:
    """What the registry has lost of a job that it knows: parts of the job, and steps."""
    end = keys.end(job_id)
    is_open = end not in job_keys and ctx.store.size(end) is None
    with suppress(InvalidInput):  # its request is lost
        is_open = is_open or journal.webhook_pending(ctx, job_id)
    if ctx.registry.jobs.status(job_id).ended:
        completed = {attempt.step_id for attempt in journal.completed_attempts(job_keys)}
        step_ids = completed & {MUX.id, NOTIFY.id}
    else:
        step_ids = {attempt.step_id for attempt in journal.stored_attempts(job_keys)}
    return [
        *ctx.registry.entries.lost_parts(job_id, live=is_open),
        *ctx.registry.steps.without_record(job_id, sorted(step_ids)),
    ]


def _repair(ctx: Context, job_id: str, stored: _StoredJob, lost: list[str]) -> Recovered:
    """Enters the lost parts of a job that the registry knows, its steps first."""
    outputs = {
        attempt: committed
        for attempt, committed in {**stored.outputs, **stored.notified}.items()
        if attempt.step_id in lost
    }
    _restore_outputs(ctx, job_id, outputs)
    unfinished = stored.begun.intersection(lost) - {attempt.step_id for attempt in outputs}
    _raise_fences(ctx, job_id, unfinished)
    notified = ctx.registry.steps.committed(job_id, NOTIFY.id)
    request = stored.submitted.request
    webhook_pending = bool(request.webhook) and notified is None
    is_open = stored.end is None or webhook_pending
    ctx.registry.entries.repair(job_id, request, live=is_open)
    step = claim_due_step(ctx, job_id) if is_open else None
    return Recovered(job_id, "repaired", reason=", ".join(lost), kept=len(outputs), step=step)


def _restore_ended(ctx: Context, stored: _StoredJob, end: JobStatus) -> Recovered:
    """Enters a job that had ended, with its video and the outputs that are left."""
    job_id = end.job_id
    _restore_outputs(ctx, job_id, {**stored.outputs, **stored.notified})
    request = stored.submitted.request
    webhook_pending = bool(request.webhook) and not stored.notified
    if webhook_pending:
        _raise_fences(ctx, job_id, {NOTIFY.id})
    ctx.registry.entries.restore(end, request, webhook_pending=webhook_pending)
    step = claim_due_step(ctx, job_id) if webhook_pending else None
    kept = len(stored.outputs)
    return Recovered(job_id, "already_ended", reason=end.state, kept=kept, step=step)


def _last_output(store: Store, job_id: str, job_keys: list[str], step: Step) -> Outputs:
    """The output of the last complete attempt at a step."""
    for attempt in journal.completed_attempts(job_keys):
        if attempt.step_id == step.id:
            return {attempt: journal.read_output(store, job_id, attempt)}
    return {}


def _restore_live(ctx: Context, job_id: str, stored: _StoredJob) -> Recovered:
    """Enters a job that resumes behind its furthest output."""
    submitted = stored.submitted
    furthest = next(iter(stored.outputs), None)
    _restore_outputs(ctx, job_id, stored.outputs)
    unfinished = set(stored.begun)
    if stored.after is not None:
        unfinished.add(stored.after.id)
    unfinished -= {attempt.step_id for attempt in stored.outputs}
    _raise_fences(ctx, job_id, unfinished)
    ctx.registry.entries.restore(
        queued(job_id, submitted.submitted_at, submitted.caller),
        submitted.request,
        demand=demand_of(ctx, submitted.request),
        current_step_id=furthest.step_id if furthest else None,
        limits=submitted.limits,
    )
    step = claim_due_step(ctx, job_id)
    kept = len(stored.outputs)
    if stored.after is None:
        state = ctx.registry.jobs.status(job_id).state
        return Recovered(job_id, "already_ended", reason=state, kept=kept, step=step)
    return Recovered(job_id, "resumed", reason=stored.after.id, kept=kept, step=step)


def _step_after(outputs: Outputs) -> Step | None:
    """The step after the furthest output; None if that is the last."""
    if not outputs:
        return DOWNLOAD
    furthest = next(iter(outputs))
    chunks = None
    for attempt, committed in outputs.items():
        if attempt.step_id == EMBED.id:
            chunks = chunks_of(committed)
    return next_step(Step.parse(furthest.step_id), chunks=chunks)


def _restore_outputs(ctx: Context, job_id: str, outputs: Outputs) -> None:
    for attempt, committed in outputs.items():
        ctx.registry.steps.restore(
            job_id, attempt.step_id, attempt_id=attempt.attempt_id, committed=committed
        )


def _raise_fences(ctx: Context, job_id: str, step_ids: set[str]) -> None:
    """Gives steps a fencing token above all others: old workers may still be running them.

    The milliseconds since 1970 are one: tokens count up from 1, or from the milliseconds of an
    earlier recovery.
    """
    for step_id in step_ids:
        fence = round(1000 * ctx.registry.now())
        raised = make_attempt_id(fence, random_part())
        ctx.registry.steps.restore(job_id, step_id, attempt_id=raised)
