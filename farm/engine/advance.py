"""What follows a step: the claim to dispatch the next one, or the end of the job."""

from __future__ import annotations

from farm.engine.context import Context
from farm.engine.journal import close_job
from farm.errors import FarmError
from farm.registry.outputs import Committed, MuxOutput, chunks_of
from farm.route import DOWNLOAD, EMBED, NOTIFY, Step, next_step


def advance(
    ctx: Context, job_id: str, step: Step, committed: Committed, *, chunks: int | None
) -> Step | None:
    """The step that the caller must now dispatch; None if there is none.

    Ends the job after its last step, and closes it once its webhook has been called.
    """
    following = next_step(step, chunks=chunks)
    if following is not None:
        return claim_step(ctx, job_id, following)
    if isinstance(committed.output, MuxOutput) and not ctx.registry.jobs.last_status(job_id).ended:
        ctx.registry.jobs.end(job_id, "success", committed.output.result)
    return close(ctx, job_id)


def claim_due_step(ctx: Context, job_id: str) -> Step | None:
    """The step of an orphaned job that the caller must now dispatch.

    Finishes what a dead worker left half done on the way there.
    """
    if ctx.registry.jobs.status(job_id).ended:  # its worker died before it closed the job
        return close(ctx, job_id)
    step_id = ctx.registry.steps.current_step_id(job_id)
    step = Step.parse(step_id) if step_id else DOWNLOAD
    while True:
        committed = ctx.registry.steps.committed(job_id, step.id)
        if committed is None:
            return claim_step(ctx, job_id, step)
        chunks = chunk_count(ctx, job_id)
        if step.spec.per_chunk and chunks is None:
            # The broker has lost the record of `embed`, so nothing could ever come next.
            error = FarmError(f"{step.id}: the number of chunks is lost; submit the job again")
            fail_job(ctx, job_id, error, at_stage=step.id)
            return None
        following = next_step(step, chunks=chunks)
        if following is None:
            return advance(ctx, job_id, step, committed, chunks=chunks)
        step = following


def chunk_count(ctx: Context, job_id: str) -> int | None:
    """Chunks of a job; None until its speech is embedded."""
    return chunks_of(ctx.registry.steps.committed(job_id, EMBED.id))


def fail_job(ctx: Context, job_id: str, error: FarmError, *, at_stage: str) -> bool:
    """Ends a job with an error; False if it had ended already."""
    failed = ctx.registry.jobs.fail(job_id, error, at_stage=at_stage)
    close_job(ctx, job_id)
    return failed


def close(ctx: Context, job_id: str) -> Step | None:
    """Closes a job that has ended; `notify` if its webhook is pending and the claim succeeds."""
    webhook_is_pending = close_job(ctx, job_id)
    return claim_step(ctx, job_id, NOTIFY) if webhook_is_pending else None


def claim_step(ctx: Context, job_id: str, step: Step, *, early: bool = False) -> Step | None:
    """The step if the claim succeeds: then the caller must dispatch it. None otherwise.

    `early`: a step that was postponed may be dispatched before it is due.
    """
    return step if ctx.registry.steps.claim_dispatch(job_id, step.id, early=early) else None
