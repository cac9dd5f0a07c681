"""The end of jobs that exceed a time limit of their own."""

from __future__ import annotations

from farm.engine.advance import fail_job
from farm.engine.context import Context
from farm.errors import InvalidInput, VersionSkew
from farm.logs import job_context, log


def end_overdue(ctx: Context) -> None:
    """Ends all jobs that have exceeded a limit; several processes may do so at once."""
    for job_id in ctx.registry.deadlines.due():
        with job_context(job_id):
            _look_at(ctx, job_id)


def _look_at(ctx: Context, job_id: str) -> None:
    """Ends a job that has exceeded a limit, or decides when to look at it again."""
    deadlines = ctx.registry.deadlines
    try:
        status = ctx.registry.jobs.status(job_id)
        limits = deadlines.limits(job_id)
    except (InvalidInput, VersionSkew):  # it is unknown, or its next reader ends it
        deadlines.remove(job_id)
        return
    now = ctx.registry.now()
    error = None if status.ended else limits.exceeded(status, now)
    if error is None and not status.ended:
        deadlines.look_again(job_id, limits.next_look(status, now))
        return
    if error is not None:
        log("job_overdue", reason=error.message)
        fail_job(ctx, job_id, error, at_stage=status.stage)
    deadlines.remove(job_id)
