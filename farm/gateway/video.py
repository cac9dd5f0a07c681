"""One video of a tenant: a job of Runpod's that is a job of the farm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from farm.client import Job
from farm.engine.advance import chunk_count
from farm.engine.context import Context
from farm.gateway.access import Tenant
from farm.gateway.answers import brief, state_of, whole
from farm.gateway.refusal import refuse
from farm.gateway.stream import take_parts
from farm.job import JobStatus, TimeLimits
from farm.route import DOWNLOAD, Step, next_step

CANCELLED_BY = "the API"


@dataclass(frozen=True)
class Video:
    ctx: Context
    tenant: Tenant
    status: JobStatus

    @classmethod
    def submit(
        cls, ctx: Context, tenant: Tenant, fields: dict[str, Any], limits: TimeLimits
    ) -> Video:
        """A new job, or the one with the same idempotency key."""
        job = tenant.farm.submit(tenant.with_priority(fields), limits=limits)
        return cls(ctx, tenant, job.status())

    @property
    def pending(self) -> list[str]:
        return [] if self.status.ended else [self.status.job_id]

    def answer(self) -> dict[str, Any]:
        position = None if self.status.ended else self._queue_position()
        return whole(self.status, now=self.ctx.registry.now(), queue_position=position)

    def cancel(self) -> dict[str, Any]:
        """Ends it; one that has ended stays as it is."""
        job = Job(self.ctx, self.status.job_id)
        job.cancel(by=CANCELLED_BY)
        return brief(job.status())

    def retry(self) -> dict[str, Any]:
        """A new job of the same request. Repeated, it is the same one, unless that failed too."""
        limits = self.ctx.registry.deadlines.limits(self.status.job_id)
        failed = self
        while True:
            if failed.status.state != "error":
                got = state_of(failed.status)
                raise refuse(409, f"id: the job is {got}; allowed: one that is FAILED or TIMED_OUT")
            request = self.ctx.registry.jobs.request(failed.status.job_id)
            key = f"retry of {failed.status.job_id}"
            fields = {**request.model_dump(mode="json"), "idempotency_key": key}
            again = Video.submit(self.ctx, self.tenant, fields, limits)
            if again.status.state != "error":
                return again.answer()
            failed = again

    def parts(self) -> dict[str, Any]:
        """What no stream has been given yet."""
        parts = take_parts(self.ctx, self.status)
        return {"status": state_of(self.status), "stream": parts}

    def _queue_position(self) -> int | None:
        """The place of the job's message among those that no worker has taken."""
        job_id = self.status.job_id
        steps = self.ctx.registry.steps
        step_id = steps.current_step_id(job_id)
        step: Step | None = DOWNLOAD
        if step_id is not None:
            step = Step.parse(step_id)
            if steps.committed(job_id, step_id) is not None:
                step = next_step(step, chunks=chunk_count(self.ctx, job_id))
        return None if step is None else steps.queue_position(job_id, step.id)
