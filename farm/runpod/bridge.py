"""The bridge: runs the step `generate` on a serverless endpoint.

It is the function of that one step in a worker whose pool is threads; lease, commit and all else
are the engine's. The attempt is the remote job, a bridge only follows it: one that dies leaves its
attempts to the next, which adopts them. The truth about a chunk is the answer in the store, not
what Runpod says of the job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from farm.engine.accounting import REMOTE_MS
from farm.engine.context import Context
from farm.engine.step_context import (
    Declined,
    Detached,
    Postponed,
    RetryLater,
    StepContext,
    Throttle,
    WorkerDraining,
)
from farm.errors import (
    Cancelled,
    FarmError,
    FarmUnreachable,
    GenerationFailed,
    InvalidInput,
    QuotaExceeded,
    UploadFailed,
    error_from_code,
)
from farm.logs import log
from farm.metrics import add
from farm.net.runpod import QueueApi, RemoteStatus, RequestRefused, RunpodUnreachable
from farm.registry.formats import load
from farm.registry.outputs import ChunkOutput, Committed, SegmentLinks
from farm.registry.remote import RemoteAttempt, RemoteJob
from farm.registry.steps import remote_attempt
from farm.runpod.budget import Budget
from farm.runpod.chunk import MAX_LOST
from farm.runpod.order import ANSWER, LOST_WORKERS, Order, make_order
from farm.settings import Settings
from farm.steps.served import check_served
from farm.store import integrity, keys, open_store
from farm.store.s3 import MAX_LINK_S, S3Store

POLLS_PER_S = 100
"""Runpod allows 200 requests a second; chunks in flight share these."""

MIN_POLL_S = 0.25
RETRY_S = 5.0
"""How long one request is repeated; meanwhile a bridge does not see that it is draining."""

LOOK_EVERY_S = 15.0
"""How often the store is asked for the answer of a chunk that still runs, as Runpod has it."""

AFTER_REFUSAL_S = 10.0
"""Pause before a chunk that could not be submitted is dispatched again."""

SUBMISSION_S = 60.0
"""How long a submission may take; a bridge that dies in it has reserved no longer."""

GRACE_S = 120.0
"""How long after its time limits a remote job is waited for, and its URLs stay valid."""

Refused = Callable[[str, float], None]
"""Is told why the endpoint gets no chunk, and how many GPU seconds the budget lacks room for."""


def ignore(reason: str, gpu_s: float) -> None:
    """For those who do not pause."""


@dataclass(frozen=True)
class Bridge:
    """An endpoint, and the store that its workers reach by signed URLs."""

    settings: Settings
    store: S3Store
    endpoint: str
    budget: Budget
    refused: Refused = ignore

    def generate(self, ctx: StepContext) -> ChunkOutput:
        """The output of a chunk that a remote worker made; adopts one that is under way."""
        ctx.timings[REMOTE_MS] = 0  # until it is known: waiting is not charged
        check_served(ctx)
        remote = ctx.lease.remote or self._submit(ctx)
        attempt = remote_attempt(ctx.lease, remote)
        try:
            status = self._follow(ctx, attempt, remote.deadline)
            answer = self._answer(ctx)
        except Cancelled:
            if is_abandoned(ctx, attempt):
                self.cancel(ctx, attempt)
            raise
        except FarmUnreachable as error:  # the store is away, the answer is not lost
            raise Detached from error
        self._settle(ctx, attempt, status, answer)
        if answer is None:
            raise _failure(status)
        return self._output(ctx, answer)

    def cancel(self, ctx: Context, attempt: RemoteAttempt) -> None:
        """Ends an abandoned remote job; one that cannot be reached is tried again later."""
        api = self._api(attempt.endpoint)
        with suppress(FarmError):
            api.cancel(attempt.remote_id)
            self._enter_cost(ctx, attempt, _execution_s(api.status(attempt.remote_id)))
            log("remote_cancelled", step_id=attempt.step_id, remote_id=attempt.remote_id)

    @property
    def limits_s(self) -> float:
        """From the submission of a chunk to its end, at most."""
        return self.settings.bridge_queue_s + self._execution_s

    @property
    def _execution_s(self) -> float:
        """Runpod also counts how long a chunk waits for the GPU behind others of its worker."""
        return self.settings.runpod_concurrency * self.settings.step_timeout_s

    def _api(self, endpoint: str) -> QueueApi:
        """The queue of an endpoint; that of an adopted attempt may be another one."""
        api = QueueApi.of_endpoint(self.settings.runpod_url, endpoint, self.settings.runpod_key)
        return replace(api, retry_s=RETRY_S)

    # Submission

    def _submit(self, ctx: StepContext) -> RemoteJob:
        """The remote job of a new attempt, noted with the attempt; raises Postponed."""
        deadline = ctx.registry.now() + self.limits_s + GRACE_S
        order = self._order(ctx)
        with self._reserved(ctx):
            submitting = RemoteJob(endpoint=self.endpoint, id=None, deadline=deadline)
            self._note(ctx, submitting)
            remote = submitting.model_copy(update={"id": self._run(ctx, order)})
            ctx.registry.spending.extend(self.endpoint, ctx.lease.attempt_id, until=deadline)
        try:
            self._note(ctx, remote)
        except Cancelled:
            self.cancel(ctx, remote_attempt(ctx.lease, remote))
            raise
        log("remote_submitted", step_id=ctx.step.id, remote_id=remote.id)
        return remote

    @contextmanager
    def _reserved(self, ctx: StepContext) -> Iterator[None]:
        """Holds the chunk's share of the budget; returns it if the block fails without an effect.

        Raises Postponed if the budget has no room for it.
        """
        until = ctx.registry.now() + SUBMISSION_S
        lacking_s = self.budget.reserve(ctx, self.endpoint, until=until)
        if lacking_s:
            reason = "the budget of this hour is used up"
            self.refused(reason, lacking_s)
            raise Postponed(reason, after_s=AFTER_REFUSAL_S)
        try:
            yield
        except _Unanswered as error:
            ctx.registry.spending.settle(self.endpoint, ctx.lease.attempt_id, None)
            raise Postponed(str(error), after_s=AFTER_REFUSAL_S) from error
        except BaseException:
            ctx.registry.spending.settle(self.endpoint, ctx.lease.attempt_id, 0.0)
            raise

    def _order(self, ctx: StepContext) -> Order:
        embedded = ctx.embed_output
        chunk = ctx.request.plan(embedded.frames, embedded.cuts).chunk(ctx.step.chunk)
        return make_order(ctx, self.store, chunk, valid_s=round(self.limits_s + GRACE_S))

    def _run(self, ctx: StepContext, order: Order) -> str:
        """The id of the submitted job; if there is none, the attempt is not counted.

        Raises Postponed, and GenerationFailed if the endpoint refuses this order alone.
        """
        policy = {
            "executionTimeout": round(1000 * self._execution_s),
            "ttl": round(1000 * self.limits_s),
            "lowPriority": ctx.request.priority == "low",
        }
        try:
            return self._api(self.endpoint).run({"input": order.payload, "policy": policy})
        except RequestRefused as error:
            self._note(ctx, None)
            raise GenerationFailed(f"{ctx.step.id}: {error.message}") from error
        except (RunpodUnreachable, InvalidInput, QuotaExceeded) as error:
            self.refused(error.message, 0.0)
            self._note(ctx, None)
            if not isinstance(error, RunpodUnreachable) or error.accepted is False:
                raise Postponed(error.message, after_s=AFTER_REFUSAL_S) from error
            self._call_off(order)
            raise _Unanswered(error.message) from error

    def _call_off(self, order: Order) -> None:
        """Lets a worker that gets the order all the same end it at once."""
        with suppress(UploadFailed):
            self.store.put(order.key(LOST_WORKERS), str(MAX_LOST).encode())

    def _note(self, ctx: StepContext, remote: RemoteJob | None) -> None:
        if not ctx.registry.steps.note_remote(ctx.lease, remote):
            raise Cancelled(f"another attempt at {ctx.step.id} holds the lease")

    # What becomes of it

    def _follow(
        self, ctx: StepContext, attempt: RemoteAttempt, deadline: float
    ) -> RemoteStatus | None:
        """The last status of a remote job; None once Runpod has forgotten it, or it is overdue.

        Raises Detached when this bridge drains, Cancelled when the chunk is not needed any more.
        """
        progress = _Progress(ctx)
        look = Throttle(LOOK_EVERY_S)
        api = self._api(attempt.endpoint)
        while ctx.registry.now() < deadline:
            try:
                ctx.raise_if_stopped()
                status = api.status(attempt.remote_id)
            except WorkerDraining:
                raise Detached from None
            except (RunpodUnreachable, InvalidInput, QuotaExceeded) as error:
                log("remote_unknown", step_id=ctx.step.id, reason=error.message)
            else:
                if status is None or status.ended:
                    return status
                if look.is_due() and self._answer(ctx) is not None:
                    return status  # its result was lost on the way to Runpod
                progress.report(status)
            time.sleep(max(MIN_POLL_S, self.settings.bridge_slots / POLLS_PER_S))
        return None

    def _answer(self, ctx: StepContext) -> Committed | None:
        """What the worker has written last, whatever Runpod says; None if it has not."""
        key = keys.attempt(ctx.job_id, ctx.step.id, ctx.lease.attempt_id, ANSWER)
        try:
            text = integrity.get_sealed(self.store, key)
        except KeyError:
            return None
        return load(text, Committed, name=key)

    def _settle(
        self,
        ctx: StepContext,
        attempt: RemoteAttempt,
        status: RemoteStatus | None,
        answer: Committed | None,
    ) -> None:
        """Enters what a remote job has cost, and sees to it that it has ended."""
        if status is None or not status.ended:
            with suppress(FarmError):
                self._api(attempt.endpoint).cancel(attempt.remote_id)
        gpu_s = _execution_s(status)
        if answer is not None:  # Runpod's time includes the wait for the GPU
            gpu_s = answer.timings[REMOTE_MS] / 1000
        self._enter_cost(ctx, attempt, gpu_s)
        ctx.timings[REMOTE_MS] = round(1000 * (gpu_s or 0.0))
        add("farm_remote_jobs_total", outcome=_outcome(status, answer))
        add("farm_remote_gpu_seconds_total", gpu_s or 0.0)

    def _enter_cost(self, ctx: Context, attempt: RemoteAttempt, gpu_s: float | None) -> None:
        """Enters what a remote job that has ended has cost; None = as much as was reserved."""
        ctx.registry.spending.settle(attempt.endpoint, attempt.attempt_id, gpu_s)
        ctx.registry.remote.forget(attempt)

    def _output(self, ctx: StepContext, answer: Committed) -> ChunkOutput:
        """The output in an answer, as if it had been made here."""
        ctx.digests.update(answer.digests)
        ctx.timings.update(answer.timings)
        output = answer.output_as(ChunkOutput)
        page = keys.playlist(ctx.job_id)
        links = SegmentLinks(
            init=self.store.link(output.init_key, page=page),
            segment=self.store.link(output.segment_key, page=page),
        )
        return output.model_copy(update={"links": links})


class _Unanswered(Exception):
    """A submission that may have been accepted, under an unknown id."""


class _Progress:
    """Passes on the newest progress of a remote job; what is none is ignored."""

    def __init__(self, ctx: StepContext) -> None:
        self._ctx = ctx
        self._worker_id: str | None = None
        self._counter = 0

    def report(self, status: RemoteStatus) -> None:
        """Updates overtake each other, and another worker counts from 1 again."""
        if status.worker_id != self._worker_id:
            self._worker_id, self._counter = status.worker_id, 0
        match status.output:
            case {
                "counter": int() as counter,
                "stage": str() as stage,
                "pct": int() | float() as pct,
                "details": dict() as details,
            } if counter > self._counter and details.keys().isdisjoint({"stage", "pct"}):
                self._counter = counter
                self._ctx.report(stage, pct, **details)


def open_bridge(settings: Settings) -> Bridge:
    """The bridge that the settings describe, before anything is contacted; raises InvalidInput."""
    if not settings.runpod_endpoint_id:
        raise InvalidInput("RUNPOD_ENDPOINT_ID: not set; allowed: the id of a serverless endpoint")
    QueueApi.of_endpoint(settings.runpod_url, settings.runpod_endpoint_id, settings.runpod_key)
    store = open_store(settings.store_address, settings)
    if not isinstance(store, S3Store):
        raise InvalidInput(
            f"FARM_STORE_URL: got {settings.store_address!r}; a bridge needs a store that the "
            "endpoint's workers can reach; allowed: s3://bucket/prefix"
        )
    bridge = Bridge(settings, store, settings.runpod_endpoint_id, Budget.of(settings))
    if bridge.limits_s + GRACE_S > MAX_LINK_S:
        raise InvalidInput(
            f"FARM_STEP_TIMEOUT_S: got {settings.step_timeout_s:g}; it is multiplied by "
            "FARM_RUNPOD_CONCURRENCY, and with FARM_BRIDGE_QUEUE_S it exceeds the week for which "
            "signed URLs can be valid"
        )
    return bridge


def is_abandoned(ctx: Context, attempt: RemoteAttempt) -> bool:
    """Whether a remote job is of no use any more: its job is over, or its attempt superseded."""
    if ctx.registry.jobs.is_over(attempt.job_id):
        return True
    return ctx.registry.steps.is_superseded(attempt.job_id, attempt.step_id, attempt.attempt_id)


def _execution_s(status: RemoteStatus | None) -> float | None:
    """Seconds that a remote job has run; None if that is unknown."""
    return None if status is None else status.execution_ms / 1000


def _outcome(status: RemoteStatus | None, answer: Committed | None) -> str:
    """How a remote job ended, as a label."""
    if answer is not None:
        return "completed"
    return "forgotten" if status is None else status.status.lower()


def _failure(status: RemoteStatus | None) -> Exception:
    """What a chunk without an answer ended with.

    A worker's own error is the chunk's. All else is a lost worker, which counts as an attempt.
    """
    if status is None:
        return RetryLater("Runpod knows nothing of the job", after_s=0)
    match status.output, status.error:
        case {"declined": {"reason": str(reason), "after_s": int() | float() as after_s}}, _:
            return Declined(reason, after_s=after_s)
        case _, {"code": str(code), "message": str(message), "retryable": bool(retryable)}:
            return error_from_code(code, message, retryable=retryable)
    return RetryLater(f"the remote job ended as {status.status} without an answer", after_s=0)
