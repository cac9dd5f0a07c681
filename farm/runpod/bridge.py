"""The bridge: runs the step `generate` on a serverless endpoint.

It is the function of that one step in a worker whose pool is threads; lease, commit and all else
are the engine's. The attempt is the remote job, a bridge only follows it: one that dies leaves its
attempts to the next, which adopts them. The truth about a chunk is the answer in the store, not
what Runpod says of the job.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from farm.engine.accounting import REMOTE_MS
from farm.engine.context import Context
from farm.engine.step_context import (
    Declined,
    Detached,
    Postponed,
    RetryLater,
    StepContext,
    Throttle,
)
from farm.errors import Cancelled, FarmError, FarmUnreachable, InvalidInput, error_from_code
from farm.estimate import chunk_s
from farm.job.status import Failure
from farm.logs import log
from farm.metrics import add
from farm.net.runpod import QueueApi, RemoteStatus, RunpodUnreachable
from farm.registry.formats import load
from farm.registry.outputs import ChunkOutput, Committed, SegmentLinks
from farm.registry.remote import RemoteAttempt, RemoteJob
from farm.registry.steps import remote_attempt
from farm.runpod.order import ANSWER, Order, make_order
from farm.settings import Settings
from farm.steps.served import check_served
from farm.store import integrity, keys, open_store
from farm.store.s3 import S3Store

SLOTS_PER_POLL_S = 100
"""With more slots each chunk is asked for less often: Runpod allows 200 requests a second."""

MIN_POLL_S = 0.25
RETRY_S = 5.0
"""How long one request is repeated; meanwhile a bridge does not see that it is draining."""

LOOK_EVERY_S = 15.0
"""How often the store is asked for the answer of a chunk that still runs, as Runpod has it."""

AFTER_REFUSAL_S = 10.0
"""Pause before a chunk that could not be submitted is dispatched again."""

GRACE_S = 120.0
"""How long after its time limits a remote job is waited for, and its URLs stay valid."""


@dataclass(frozen=True)
class Bridge:
    """An endpoint, and the store that its workers reach by signed URLs."""

    settings: Settings
    store: S3Store
    api: QueueApi
    endpoint: str
    refused: Callable[[str], None] = field(default=lambda reason: None)
    """Told why the endpoint does not accept a chunk."""

    @property
    def budget_s(self) -> float | None:
        """GPU seconds per hour; None for any number."""
        return hourly_budget_s(self.settings)

    def generate(self, ctx: StepContext) -> ChunkOutput:
        """The output of a chunk that a remote worker made; adopts one that is under way."""
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
        """Ends a remote job that nobody needs; one that cannot be reached is tried again later."""
        with suppress(FarmError):
            self.api.cancel(attempt.remote_id)
            ctx.registry.remote.forget(attempt)
            ctx.registry.remote.settle(self.endpoint, attempt.attempt_id, None)
            log("remote_cancelled", step_id=attempt.step_id, remote_id=attempt.remote_id)

    def _submit(self, ctx: StepContext) -> RemoteJob:
        """The remote job of a new attempt, noted with the attempt; raises Postponed."""
        limits_s = self.settings.bridge_queue_s + self.settings.step_timeout_s
        deadline = ctx.registry.now() + limits_s + GRACE_S
        self._reserve(ctx, deadline)
        order = self._order(ctx, valid_s=round(limits_s + GRACE_S))
        submitting = RemoteJob(endpoint=self.endpoint, id=None, deadline=deadline)
        self._note(ctx, submitting)
        remote = submitting.model_copy(update={"id": self._run(ctx, order)})
        try:
            self._note(ctx, remote)
        except Cancelled:
            self.cancel(ctx, remote_attempt(ctx.lease, remote))
            raise
        log("remote_submitted", step_id=ctx.step.id, remote_id=remote.id)
        return remote

    def _reserve(self, ctx: StepContext, deadline: float) -> None:
        if self.budget_s is None:
            return
        reserved = ctx.registry.remote.reserve(
            self.endpoint,
            ctx.lease.attempt_id,
            chunk_s(ctx.request),
            until=deadline,
            budget_s=self.budget_s,
        )
        if not reserved:
            self.refused("the budget of this hour is used up")
            raise Postponed("the budget of this hour is used up", after_s=AFTER_REFUSAL_S)

    def _order(self, ctx: StepContext, *, valid_s: int) -> Order:
        embedded = ctx.embed_output
        chunk = ctx.request.plan(embedded.frames, embedded.cuts).chunk(ctx.step.chunk)
        return make_order(ctx, self.store, chunk, valid_s=valid_s)

    def _run(self, ctx: StepContext, order: Order) -> str:
        """The id of the submitted job; if there is none, the attempt is not counted."""
        policy = {
            "executionTimeout": round(1000 * self.settings.step_timeout_s),
            "ttl": round(1000 * (self.settings.step_timeout_s + self.settings.bridge_queue_s)),
            "lowPriority": ctx.request.priority == "low",
        }
        try:
            return self.api.run({"input": order.payload, "policy": policy})
        except (RunpodUnreachable, InvalidInput) as error:
            self.refused(error.message)
            self._note(ctx, None)
            ctx.registry.remote.settle(self.endpoint, ctx.lease.attempt_id, 0.0)
            raise Postponed(error.message, after_s=AFTER_REFUSAL_S) from error

    def _note(self, ctx: StepContext, remote: RemoteJob | None) -> None:
        if not ctx.registry.steps.note_remote(ctx.lease, remote):
            raise Cancelled(f"another attempt at {ctx.step.id} holds the lease")

    def _follow(
        self, ctx: StepContext, attempt: RemoteAttempt, deadline: float
    ) -> RemoteStatus | None:
        """The last status of a remote job; None once Runpod has forgotten it, or it is overdue.

        Raises Detached when this bridge drains, Cancelled when the chunk is not needed any more.
        """
        seen: Any = None
        look = Throttle(LOOK_EVERY_S)
        while ctx.registry.now() < deadline:
            if ctx.draining():
                raise Detached
            ctx.raise_if_stopped()
            try:
                status = self.api.status(attempt.remote_id)
            except RunpodUnreachable as error:
                log("remote_unknown", step_id=ctx.step.id, reason=error.message)
            else:
                if status is None or status.ended:
                    return status
                if look.is_due() and self._answer(ctx) is not None:
                    return status  # its result was lost on the way to Runpod
                if status.output != seen:
                    seen = status.output
                    _report(ctx, seen)
            time.sleep(self._poll_s)
        return None

    @property
    def _poll_s(self) -> float:
        return max(MIN_POLL_S, self.settings.bridge_slots / SLOTS_PER_POLL_S)

    def _settle(
        self,
        ctx: StepContext,
        attempt: RemoteAttempt,
        status: RemoteStatus | None,
        answer: Committed | None,
    ) -> None:
        """Enters what a remote job has cost, and that it has ended."""
        gpu_s = None if status is None else status.execution_ms / 1000
        if answer is not None:  # Runpod's time includes the wait for the GPU
            gpu_s = answer.timings[REMOTE_MS] / 1000
        ctx.registry.remote.settle(self.endpoint, attempt.attempt_id, gpu_s)
        ctx.registry.remote.forget(attempt)
        outcome = "forgotten" if status is None else status.status
        add("farm_remote_jobs_total", outcome=outcome.lower())
        add("farm_remote_gpu_seconds_total", gpu_s or 0.0)

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

    def _answer(self, ctx: StepContext) -> Committed | None:
        """What the worker has written last, whatever Runpod says; None if it has not."""
        key = keys.attempt(ctx.job_id, ctx.step.id, ctx.lease.attempt_id, ANSWER)
        try:
            text = integrity.get_sealed(self.store, key)
        except KeyError:
            return None
        return load(text, Committed, name=key)


def open_bridge(settings: Settings) -> Bridge:
    """The bridge that the settings describe, before anything is contacted; raises InvalidInput."""
    if not settings.runpod_endpoint_id:
        raise InvalidInput("RUNPOD_ENDPOINT_ID: not set; allowed: the id of a serverless endpoint")
    if not settings.runpod_api_key:
        raise InvalidInput("RUNPOD_API_KEY: not set; allowed: a key of the endpoint's account")
    if settings.bridge_cost_per_hour is not None and settings.bridge_price_per_s is None:
        raise InvalidInput("FARM_BRIDGE_PRICE_PER_S: not set; FARM_BRIDGE_COST_PER_HOUR needs it")
    store = open_store(settings.store_address, settings)
    if not isinstance(store, S3Store):
        raise InvalidInput(
            f"FARM_STORE_URL: got {settings.store_address!r}; a bridge needs a store that the "
            "endpoint's workers can reach; allowed: s3://bucket/prefix"
        )
    endpoint = settings.runpod_endpoint_id
    api = QueueApi.of_endpoint(settings.runpod_url, endpoint, settings.runpod_api_key)
    return Bridge(settings, store, replace(api, retry_s=RETRY_S), endpoint)


def hourly_budget_s(settings: Settings) -> float | None:
    """The GPU seconds that the endpoint may be used in an hour; None for any number."""
    limits = [settings.bridge_gpu_s_per_hour]
    if settings.bridge_cost_per_hour is not None and settings.bridge_price_per_s:
        limits.append(settings.bridge_cost_per_hour / settings.bridge_price_per_s)
    return min((limit for limit in limits if limit is not None), default=None)


def is_abandoned(ctx: Context, attempt: RemoteAttempt) -> bool:
    """Whether nobody needs a remote job any more: its job is over, or its attempt superseded."""
    if ctx.registry.jobs.is_over(attempt.job_id):
        return True
    return ctx.registry.steps.is_superseded(attempt.job_id, attempt.step_id, attempt.attempt_id)


def _report(ctx: StepContext, output: Any) -> None:
    """Passes on a worker's progress; anything else is ignored."""
    match output:
        case {"stage": str() as stage, "pct": int() | float() as pct, "details": dict() as details}:
            ctx.report(stage, pct, **details)


def _failure(status: RemoteStatus | None) -> Exception:
    """What a chunk without an answer ended with.

    A worker's own error is the chunk's. All else is a lost worker, which counts as an attempt.
    """
    if status is None:
        return RetryLater("Runpod knows nothing of the job", after_s=0)
    match status.output, status.error:
        case {"declined": {"reason": str(reason), "after_s": int() | float() as after_s}}, _:
            return Declined(reason, after_s=after_s)
        case _, {"code": str(), "message": str()} as error:
            failure = Failure.model_validate(error)
            return error_from_code(failure.code, failure.message, retryable=failure.retryable)
    return RetryLater(f"the remote job ended as {status.status} without an answer", after_s=0)
