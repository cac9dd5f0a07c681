"""The removal of whole jobs: of those that have expired, and of those that their callers delete."""

from __future__ import annotations

from farm.engine import journal
from farm.engine.accounting import uploads_of
from farm.engine.advance import chunk_count
from farm.engine.context import Context
from farm.logs import log
from farm.route import MUX, NOTIFY, Step, steps_of_job
from farm.store import keys


def delete_job(ctx: Context, job_id: str) -> None:
    """Removes an ended job from the store and the registry, and its uploads if no other job has
    them.

    A step that is still at work removes what it has stored when it stops. Raises UnknownJob. The
    job goes last, so an interrupted deletion can be repeated.
    """
    caller = ctx.registry.jobs.caller(job_id)
    for upload in uploads_of(ctx.registry.jobs.request(job_id)):
        _withdraw(ctx, job_id, upload, caller)
    remove_job(ctx, job_id, list(ctx.store.keys(keys.job(job_id))))
    log("job_deleted", job_id=job_id, caller=caller)


def remove_job(ctx: Context, job_id: str, job_keys: list[str]) -> None:
    """Removes an ended job, whose keys in the store these are, but for its uploads.

    Its end goes last: as long as it is there, the job can neither be recovered nor be forgotten by
    half. So an interrupted removal can be repeated. What a step stores meanwhile goes, too: here
    until the job is forgotten, and by the step itself after that.
    """
    step_ids = _step_ids(ctx, job_id, job_keys)
    _delete_all_but_end(ctx, job_id, job_keys)
    ctx.registry.entries.forget(job_id, step_ids)
    _delete_all_but_end(ctx, job_id, list(ctx.store.keys(keys.job(job_id))))
    ctx.store.delete(keys.end(job_id))


def _delete_all_but_end(ctx: Context, job_id: str, job_keys: list[str]) -> None:
    for key in job_keys:
        if key != keys.end(job_id):
            ctx.store.delete(key)


def _step_ids(ctx: Context, job_id: str, job_keys: list[str]) -> list[str]:
    """The steps of a job backwards: the record of `embed`, which says how many chunks there are, is
    removed late. A recovered job may lack it; then the store's keys say which steps were run.
    """
    steps = {*steps_of_job(chunk_count(ctx, job_id)), MUX, NOTIFY}
    steps.update(Step.parse(attempt.step_id) for attempt in journal.stored_attempts(job_keys))
    return [step.id for step in sorted(steps, key=lambda step: step.position, reverse=True)]


def _withdraw(ctx: Context, job_id: str, upload: str, caller: str) -> None:
    """Takes an upload of a job from its caller, and deletes it, unless another job has it."""
    users = ctx.registry.jobs.callers_of(upload, besides=job_id)
    if caller not in users:
        ctx.registry.accounts.withdraw(caller, upload)
    if not users:
        ctx.store.delete(upload)
