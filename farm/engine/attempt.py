"""How every step is run, so that running it twice has the effect of running it once.

The numbered comments are the points of docs/architecture.md.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from farm.engine.accounting import count_commit, estimate_update, gpu_time_charged
from farm.engine.advance import advance, fail_job
from farm.engine.context import Context
from farm.engine.journal import discard_deleted
from farm.engine.kept_inputs import KeptInputs
from farm.engine.leases import LeaseKeeper
from farm.engine.playlist import publish
from farm.engine.scratch import paths_of, scratch_folder
from farm.engine.shortage import left_to_others
from farm.engine.step_context import (
    Declined,
    Detached,
    Postponed,
    RetryLater,
    StepContext,
    StepFunctions,
    WorkerDraining,
    ignore_progress,
    never_draining,
)
from farm.errors import (
    Cancelled,
    FarmError,
    TimedOut,
    UnknownJob,
    VersionSkew,
    WorkerLost,
)
from farm.job import STAGES, Event, JobStatus, ResolvedRequest
from farm.logs import job_context, log
from farm.metrics import add
from farm.registry import Lease
from farm.registry.outputs import Committed, chunks_of
from farm.registry.records import Change
from farm.registry.status_record import StatusRecord
from farm.route import DOWNLOAD, EMBED, Step, next_step

RETRY_AFTER_S = 2.0
"""Pause before the first retry; each further one takes twice as long."""


def always_its_turn(job_id: str) -> AbstractContextManager[bool]:
    return nullcontext(True)


@dataclass(frozen=True)
class Hooks:
    """What an attempt needs of the process that it runs in."""

    step_function: StepFunctions
    timeout_error: type[Exception] = TimeoutError
    """Raised inside a step that takes longer than FARM_STEP_TIMEOUT_S."""
    draining: Callable[[], bool] = never_draining
    progressed: Callable[[], None] = ignore_progress
    """Called at each denoise step."""
    turn: Callable[[str], AbstractContextManager[bool]] = always_its_turn
    """Of a job's download: whether it may begin now; otherwise the step is postponed."""
    adopts: bool = False
    """Adopts remote attempts instead of beginning new ones."""
    kept: KeptInputs = field(default_factory=KeptInputs)
    """What the steps of the process keep in memory for later ones."""
    leases: LeaseKeeper = field(default_factory=LeaseKeeper)


@dataclass(frozen=True)
class Attempt:
    """One message's try at a step. Messages may be lost or come twice; the registry decides."""

    ctx: Context
    job_id: str
    step: Step
    hooks: Hooks

    def run(self) -> Step | None:
        """The next step if the caller must dispatch it, else None.

        Raises the FarmError with which the job ends, and WorkerDraining: then the message goes
        back to its queue.
        """
        with job_context(self.job_id):
            try:
                return self._run()
            except UnknownJob:
                discard_deleted(self.ctx, self.job_id)
                return None
            except VersionSkew as error:
                fail_job(self.ctx, self.job_id, error, at_stage=self.step.id)
                raise

    def _run(self) -> Step | None:
        snapshot = self._snapshot()
        turn = self.hooks.turn(self.job_id) if self.step == DOWNLOAD else nullcontext(True)
        with turn as is_its_turn:
            return self._run_in_turn(*snapshot) if is_its_turn else None

    def _run_in_turn(
        self, status: JobStatus, committed: Committed | None, seen: dict[str, Committed | None]
    ) -> Step | None:
        if status.ended != self.step.spec.runs_after_end:
            return None
        chunks = chunks_of(seen[EMBED.id])
        after = None
        # 1. Output committed? Go on.
        if committed is not None:
            add("farm_duplicates_total", step=self.step.kind, reason="committed")
        else:
            done = self._run_once(seen)
            if done is None:
                return None
            committed, after = done
        if self.step.kind == "generate":
            publish(self.ctx, self.job_id, chunks)
        # 5. Claim the dispatch of the next step, once, unless the commit has.
        return after or advance(self.ctx, self.job_id, self.step, committed, chunks=chunks)

    def _run_once(self, seen: dict[str, Committed | None]) -> tuple[Committed, Step | None] | None:
        """The output and the step that the caller must now dispatch, if this attempt committed."""
        lease = self._acquire()  # 2. Take the lease.
        if lease is None:
            return None
        log(
            "step_started",
            step_id=self.step.id,
            attempt_id=lease.attempt_id,
            attempts=lease.attempts,
            adopted=lease.remote is not None,
        )
        done = None
        try:
            done = self._run_leased(lease, seen)
        finally:
            if done is None:
                discard_deleted(self.ctx, self.job_id)
        return done

    def _run_leased(
        self, lease: Lease, seen: dict[str, Committed | None]
    ) -> tuple[Committed, Step | None] | None:
        start = time.monotonic()
        try:
            committed, unsent = self._execute(lease, seen)  # 3. Run, under keys that carry its id.
        except Cancelled as error:  # the job has ended, or another attempt holds the lease
            self._log_cancelled(error)
            return None
        except Detached:
            self._detach(lease)
            return None
        except Exception as error:
            self._end_failed(lease, error)
            return None
        except BaseException as interruption:  # the worker is shutting down
            if lease.remote is not None:  # adopted, and not begun with
                self._detach(lease)
                return None
            self._release(lease, interruption)
            raise
        took_s = time.monotonic() - start
        # 4. Commit by compare-and-set on the attempt's id; a superseded attempt is discarded.
        try:
            return self._commit(lease, committed, unsent, chunks_of(seen[EMBED.id]), took_s)
        except Cancelled as error:
            self._log_cancelled(error)
            return None

    def _log_cancelled(self, error: Cancelled) -> None:
        log("step_cancelled", step_id=self.step.id, reason=error.message)

    def _snapshot(self) -> tuple[JobStatus, Committed | None, dict[str, Committed | None]]:
        """The status of the job, the output of the step, and those of earlier ones by their ids."""
        earlier = list(dict.fromkeys([EMBED.id, *(step.id for step in self.step.reads)]))
        status, (committed, *seen) = self.ctx.registry.snapshot(
            self.job_id, [self.step.id, *earlier]
        )
        return status, committed, dict(zip(earlier, seen, strict=True))

    @property
    def _request(self) -> ResolvedRequest:
        return self.ctx.registry.jobs.request(self.job_id)

    def _acquire(self) -> Lease | None:
        settings = self.ctx.settings
        # A step that runs after the end cannot fail its job; it decides when to give up.
        max_attempts = sys.maxsize if self.step.spec.runs_after_end else settings.max_attempts
        try:
            lease = self.ctx.registry.steps.acquire(
                self.job_id,
                self.step.id,
                lease_s=settings.lease_s,
                max_attempts=max_attempts,
                adopt=self.hooks.adopts,
                along=self._begun(),
            )
        except WorkerLost as error:
            add("farm_expired_leases_total", step=self.step.kind)
            add("farm_worker_lost_total", step=self.step.kind)
            fail_job(self.ctx, self.job_id, error, at_stage=self.step.id)
            raise
        if lease is None:
            add("farm_duplicates_total", step=self.step.kind, reason="leased")
        elif lease.after_expiry:
            add("farm_expired_leases_total", step=self.step.kind)
        return lease

    def _begun(self) -> list[Change[StatusRecord]]:
        """The step's first report, which is written with its lease."""
        stage = self.step.spec.first_stage
        if stage is None or self.hooks.draining():
            return []
        event = Event(stage=stage, pct=STAGES[stage], job_id=self.job_id)
        return [self.ctx.registry.jobs.report_change(event)]

    def _execute(
        self, lease: Lease, seen: dict[str, Committed | None]
    ) -> tuple[Committed, list[Event]]:
        """Runs the step function and stores its output, last of all that the attempt writes.

        With the events that go with the commit.
        """
        run_step = self.hooks.step_function(self.step.kind)
        kept = self.hooks.leases.keep(self.ctx, lease, outlives_job=self.step.spec.runs_after_end)
        with (
            kept as lease_lost,
            left_to_others(self.step, lease),
            scratch_folder(self.job_id) as scratch,
        ):
            step_ctx = StepContext(
                settings=self.ctx.settings,
                store=self.ctx.store,
                registry=self.ctx.registry,
                step=self.step,
                lease=lease,
                request=self._request,
                scratch=scratch,
                lease_lost=lease_lost,
                draining=self.hooks.draining,
                progressed=self.hooks.progressed,
                kept=self.hooks.kept,
                seen=seen,
            )
            step_ctx.raise_if_draining()
            with gpu_time_charged(step_ctx):
                output = run_step(step_ctx)
            return step_ctx.put_output(output), step_ctx.unsent

    def _commit(
        self,
        lease: Lease,
        committed: Committed,
        unsent: list[Event],
        chunks: int | None,
        took_s: float,
    ) -> tuple[Committed, Step | None] | None:
        update = estimate_update(
            self.step,
            self._request,
            committed,
            chunks=chunks,
            took_s=took_s,
            gpus=self.ctx.settings.gpus,
        )
        timings: dict[str, Any] = committed.timings
        following = next_step(self.step, chunks=chunks)
        commit = self.ctx.registry.commit(
            lease,
            committed,
            update,
            caller=self.ctx.registry.jobs.caller(self.job_id),
            events=unsent,
            next_step_id=following.id if following else None,
        )
        if commit is None:
            log("step_superseded", step_id=self.step.id, **timings)
            add("farm_duplicates_total", step=self.step.kind, reason="superseded")
            return None
        log("step_committed", step_id=self.step.id, **timings)
        count_commit(self.step, self._request, committed, took_s=took_s)
        return committed, following if commit.dispatches else None

    def _detach(self, lease: Lease) -> None:
        """Leaves a remote attempt to the next bridge."""
        log("step_detached", step_id=self.step.id, attempt_id=lease.attempt_id)
        self.ctx.registry.steps.detach(lease)

    def _end_failed(self, lease: Lease, cause: Exception) -> None:
        """Leaves the step to a later attempt, or ends the job with the error and raises it."""
        if isinstance(cause, RetryLater):
            self._release(lease, cause, retry_after_s=cause.after_s)
            return
        error = farm_error(cause, self.step, timeout_error=self.hooks.timeout_error)
        if error is not cause:
            log("step_raised", level=logging.ERROR, exc_info=cause, step_id=self.step.id)
        retries = min(error.retries, self.ctx.settings.max_attempts - 1)
        retry = error.retryable and lease.attempts <= retries
        if retry:
            retry_after_s = RETRY_AFTER_S * 2 ** (lease.attempts - 1)
        else:
            # Keeps the reaper away until the job has ended.
            retry_after_s = self.ctx.settings.redispatch_after_s
        released = self._release(lease, error, retry_after_s=retry_after_s)
        if not released:  # superseded: the other attempt decides
            return
        if retry:
            add("farm_retries_total", step=self.step.kind)
            return
        stage = self.ctx.registry.jobs.status(self.job_id).stage
        error.hidden = paths_of(self.job_id)
        if fail_job(self.ctx, self.job_id, error, at_stage=stage):
            raise error

    def _release(self, lease: Lease, reason: BaseException, *, retry_after_s: float = 0.0) -> bool:
        """Ends an attempt without an output, and logs why; False if it is superseded.

        Only a failure counts as an attempt. The message of a draining worker is requeued.
        """
        draining = isinstance(reason, WorkerDraining)
        declined = isinstance(reason, Declined)
        failed = isinstance(reason, Exception) and not isinstance(reason, Declined | Postponed)
        # Logged before the release, which fails if the broker cannot be reached.
        self._log_release(reason, retry_after_s)
        return self.ctx.registry.steps.release(
            lease,
            retry_after_s=retry_after_s,
            counted=failed,
            declined=declined,
            requeued=draining,
        )

    def _log_release(self, reason: BaseException, retry_after_s: float) -> None:
        step_id = self.step.id
        match reason:
            case FarmError(code=code, message=message):
                log("step_failed", step_id=step_id, code=code, reason=message)
            case RetryLater():
                log(
                    "step_retry_scheduled",
                    step_id=step_id,
                    reason=str(reason),
                    retry_after_s=retry_after_s,
                )
            case _:
                log("step_released", step_id=step_id, reason=type(reason).__name__)


def farm_error(
    error: Exception, step: Step, *, timeout_error: type[Exception] = TimeoutError
) -> FarmError:
    """What a step raised as one of the farm's own errors, with its cause kept."""
    if isinstance(error, FarmError):
        return error
    named: FarmError
    if isinstance(error, timeout_error):
        named = TimedOut(f"{step.id} took longer than FARM_STEP_TIMEOUT_S allows")
    else:
        named = step.spec.failure(f"{step.id}: {type(error).__name__}: {error}")
    named.__cause__ = error
    return named
