"""How every step is done, so that twice is the same as once.

Is the product current? Then go on. Else take its lease, make it under keys of this attempt, make it current if the
fence still holds, and claim the right to send what comes next. Messages may be lost or come twice: `due` finds what to
send again.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from importlib import import_module
from typing import Any

from farm.engine.accounting import count_made, outlook
from farm.engine.context import Context
from farm.engine.journal import close
from farm.engine.playlist import publish
from farm.engine.route import FIRST, LAST, NOTIFY, Step, following
from farm.engine.scratch import scratch_folder
from farm.engine.step_context import Drained, Later, StepContext, stays
from farm.errors import (
    Cancelled,
    DownloadFailed,
    EmbeddingFailed,
    FarmError,
    FarmUnreachable,
    FFmpegFailed,
    GenerationFailed,
    TimedOut,
    WorkerLost,
)
from farm.job import Result
from farm.logs import job_context, log
from farm.metrics import add
from farm.registry import Lease
from farm.store import keys

FAILURES: dict[str, type[FarmError]] = {
    "download": DownloadFailed,
    "embed": EmbeddingFailed,
    "generate": GenerationFailed,
    "mux": FFmpegFailed,
    "notify": FarmError,
}
"""What an unforeseen exception at a station is called."""

RETRY_AFTER_S = 2.0
"""Pause before the first retry; each further one takes twice as long."""


def perform(
    ctx: Context,
    job_id: str,
    step: Step,
    *,
    time_is_up: type[Exception] = TimeoutError,
    leaving: Callable[[], bool] = stays,
) -> Step | None:
    """Sees to it that a step is done, and returns the step whose message is now the caller's to send, if any.

    None also when the job has ended (`notify` alone is for those) or another works on the step. Raises the FarmError
    that ended the job, and Drained once `leaving` says that this worker is asked to go: then the message of this step
    is for another.
    """
    with job_context(job_id):
        return _perform(ctx, job_id, step, time_is_up, leaving)


def _perform(
    ctx: Context, job_id: str, step: Step, time_is_up: type[Exception], leaving: Callable[[], bool]
) -> Step | None:
    status, (output, facts) = ctx.registry.look(job_id, [step.id, "embed"])
    if status.ended is not (step == NOTIFY):
        return None
    chunks = (facts or {}).get("chunks", 0)
    if output is not None:
        add("farm_duplicates_total", kind=step.kind, found="made")
    else:
        output = _attempt(ctx, job_id, step, chunks, time_is_up, leaving)
    if output is None:
        return None
    if step.kind == "generate":
        publish(ctx, job_id, chunks)
    after = following(step, chunks=chunks)
    if after is None:
        return _finish(ctx, job_id, step, output)
    return _rung(ctx, job_id, after)


def due(ctx: Context, job_id: str) -> Step | None:
    """The step of a job that nobody works on and no message is on its way for; it is now the caller's to send."""
    if ctx.registry.job(job_id).ended:  # whoever ended it died before it was closed
        return _close(ctx, job_id)
    at = ctx.registry.at(job_id)
    step = Step.parse(at) if at else FIRST
    while (output := ctx.registry.output(job_id, step.id)) is not None:
        after = following(step, chunks=_chunks(ctx, job_id))
        if after is None:
            return _finish(ctx, job_id, step, output)
        step = after
    return _rung(ctx, job_id, step)


def _attempt(
    ctx: Context, job_id: str, step: Step, chunks: int, time_is_up: type[Exception], leaving: Callable[[], bool]
) -> dict[str, Any] | None:
    """The product, if this attempt made it; None when another works on it, took it over or shall try again."""
    lease = _lease(ctx, job_id, step)
    if lease is None:
        return None
    log("step_started", step_id=step.id, attempt=lease.attempts)
    began = time.monotonic()
    try:
        output = _make(ctx, step, lease, leaving)
    except Cancelled as stopped:
        log("step_stopped", step_id=step.id, reason=stopped.message)
        return None
    except Later as later:
        ctx.registry.give_back(lease, after_s=later.after_s)
        log("step_put_off", step_id=step.id, reason=str(later), again_in_s=later.after_s)
        return None
    except Exception as error:
        _settle(ctx, lease, step, _named(error, step, time_is_up))
        return None
    except BaseException as stopped:  # the worker is being shut down; whoever comes next need not wait for the lease
        _hand_back(ctx, lease, step, stopped)
        raise
    return output if _commit(ctx, lease, step, output, chunks, time.monotonic() - began) else None


def _lease(ctx: Context, job_id: str, step: Step) -> Lease | None:
    settings = ctx.settings
    # A call of a webhook cannot end its job, and knows by itself when to give up.
    max_attempts = sys.maxsize if step == NOTIFY else settings.max_attempts
    try:
        lease = ctx.registry.take(job_id, step.id, lease_s=settings.lease_s, max_attempts=max_attempts)
    except WorkerLost as error:
        add("farm_lease_losses_total", kind=step.kind)
        add("farm_parked_total", kind=step.kind)
        _fail(ctx, job_id, error, at_stage=step.id)
        raise
    if lease is None:
        add("farm_duplicates_total", kind=step.kind, found="held")
    elif lease.took_over:
        add("farm_lease_losses_total", kind=step.kind)
    return lease


def _commit(ctx: Context, lease: Lease, step: Step, output: dict[str, Any], chunks: int, took_s: float) -> bool:
    """Whether the goods became current, counted either way."""
    request = ctx.registry.request(lease.job_id)
    ahead = outlook(step, request, output, chunks=chunks, took_s=took_s)
    made = ctx.registry.commit(lease, output, ahead)
    log("step_made" if made else "step_outrun", step_id=step.id, **output["timings"])
    if made:
        count_made(step, request, output, took_s=took_s)
    else:
        add("farm_duplicates_total", kind=step.kind, found="overtaken")
    return made


def _make(ctx: Context, step: Step, lease: Lease, leaving: Callable[[], bool]) -> dict[str, Any]:
    benchmarks: Callable[[StepContext], dict[str, Any]] = getattr(import_module(f"farm.steps.{step.kind}"), step.kind)
    request = ctx.registry.request(lease.job_id)
    with _renewed(ctx, lease) as lost, scratch_folder(lease.job_id) as scratch:
        step_ctx = StepContext(ctx.settings, ctx.store, ctx.registry, step, lease, request, scratch, lost, leaving)
        step_ctx.make_way()
        output = {
            **benchmarks(step_ctx),
            "timings": step_ctx.timings,
            "attempt": lease.fence,
            "made_of": step_ctx.made_of,
        }
        step_ctx.put(json.dumps(output).encode(), keys.OUTPUT)
        return output


@contextmanager
def _renewed(ctx: Context, lease: Lease) -> Iterator[threading.Event]:
    """Keeps a lease while the block runs; the event that it yields is set once the lease is another's."""
    over, lost = threading.Event(), threading.Event()

    def renew() -> None:
        while not over.wait(ctx.settings.lease_s / 4):
            try:
                if not ctx.registry.renew(lease, lease_s=ctx.settings.lease_s):
                    lost.set()
                    return
            except FarmUnreachable as error:  # the fence decides at the end; meanwhile keep trying
                log("lease_not_renewed", step_id=lease.step_id, reason=error.message)

    thread = threading.Thread(target=copy_context().run, args=(renew,), name=f"lease-{lease.step_id}", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        over.set()
        thread.join()


def _named(error: Exception, step: Step, time_is_up: type[Exception]) -> FarmError:
    """The error as one of the farm's own, with its cause kept."""
    if isinstance(error, FarmError):
        return error
    named: FarmError
    if isinstance(error, time_is_up):
        named = TimedOut(f"{step.id} took longer than FARM_STEP_TIMEOUT_S allows")
    else:
        named = FAILURES[step.kind](f"{step.id}: {type(error).__name__}: {error}")
    named.__cause__ = error
    return named


def _settle(ctx: Context, lease: Lease, step: Step, error: FarmError) -> None:
    """Leaves a failed attempt to a later one, or ends the job with its error and raises it; unless it was overtaken."""
    log("step_failed", step_id=step.id, code=error.code, reason=error.message)
    again = error.retryable and lease.attempts <= min(error.retries, ctx.settings.max_attempts - 1)
    pause_s = RETRY_AFTER_S * 2 ** (lease.attempts - 1) if again else ctx.settings.ring_s
    mine = ctx.registry.give_back(lease, after_s=pause_s)
    if again and mine:
        add("farm_retries_total", kind=step.kind)
    if again or not mine:
        return
    if _fail(ctx, lease.job_id, error, at_stage=ctx.registry.job(lease.job_id).stage):
        raise error


def _hand_back(ctx: Context, lease: Lease, step: Step, stopped: BaseException) -> None:
    """Leaves a step that is not to blame to the next worker, uncounted.

    A drained worker's message is back in its queue in a moment.
    """
    if isinstance(stopped, Drained):
        ctx.registry.hand_back(lease, window_s=ctx.settings.ring_s)
    else:
        ctx.registry.give_back(lease, after_s=0, counted=False)
    log("step_handed_back", step_id=step.id, reason=type(stopped).__name__)


def _fail(ctx: Context, job_id: str, error: FarmError, *, at_stage: str) -> bool:
    """Whether the job ends with this error; it may have ended already."""
    failed = ctx.registry.fail(job_id, error, at_stage=at_stage)
    close(ctx, job_id)
    return failed


def _chunks(ctx: Context, job_id: str) -> int:
    return int((ctx.registry.output(job_id, "embed") or {}).get("chunks", 1))


def _finish(ctx: Context, job_id: str, step: Step, output: dict[str, Any]) -> Step | None:
    """What is to be sent once the last product is made, or the end is told."""
    if step == LAST:
        ctx.registry.end(job_id, "success", Result.model_validate_json(json.dumps(output["result"])))
    return _close(ctx, job_id)


def _close(ctx: Context, job_id: str) -> Step | None:
    """Closes a job that has ended; the call of its webhook, if that is to be sent, and by the caller."""
    untold = close(ctx, job_id)
    return _rung(ctx, job_id, NOTIFY) if untold else None


def _rung(ctx: Context, job_id: str, step: Step) -> Step | None:
    """The step, if its message is the caller's to send."""
    return step if ctx.registry.ring(job_id, step.id, window_s=ctx.settings.ring_s) else None
