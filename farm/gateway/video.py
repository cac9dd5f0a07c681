"""One video of a tenant: a job of Runpod's that is a job of the farm."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from farm.client import Job
from farm.engine.context import Context
from farm.errors import InvalidInput, UnknownJob
from farm.gateway.access import Tenant
from farm.gateway.answers import brief, state_of, whole
from farm.gateway.refusal import refuse, unknown_job
from farm.gateway.stream import take_parts
from farm.job import JobStatus, TimeLimits, WebhookStatus

CANCELLED_BY = "the API"
JOB_ID = re.compile("[0-9a-f]{32}")


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

    @classmethod
    def find(cls, ctx: Context, tenant: Tenant, job_id: str) -> Video:
        """A tenant's own job; Refusal 404 for any other."""
        if not JOB_ID.fullmatch(job_id):
            raise unknown_job(job_id)
        try:
            return cls(ctx, tenant, tenant.farm.job(job_id).status())
        except InvalidInput:
            raise unknown_job(job_id) from None

    @property
    def pending(self) -> list[str]:
        return [] if self.status.ended else [self.status.job_id]

    def answer(self) -> dict[str, Any]:
        now = self.ctx.registry.now()
        return whole(self.status, now=now, queue_position=self.queue_position())

    def cancel(self) -> dict[str, Any]:
        return brief(self.cancelled().status)

    def cancelled(self) -> Video:
        """The job, ended; one that has ended stays as it is."""
        job = Job(self.ctx, self.status.job_id)
        job.cancel(by=CANCELLED_BY)
        return replace(self, status=job.status())

    def delete(self) -> None:
        """Removes the job; one that another call removes meanwhile is as good as removed."""
        with suppress(UnknownJob):
            Job(self.ctx, self.status.job_id).delete(by=CANCELLED_BY)

    def retry(self) -> dict[str, Any]:
        if self.status.state != "error":
            got = state_of(self.status)
            raise refuse(409, f"id: the job is {got}; allowed: one that is FAILED or TIMED_OUT")
        return self.retried().answer()

    def retried(self) -> Video:
        """A new job of the request of one that ended without a video.

        Repeated, it is the same one, unless that has no video either.
        """
        job_id = self.status.job_id
        self.tenant.with_priority({"priority": self.ctx.registry.jobs.request(job_id).priority})
        return replace(self, status=self.tenant.farm.retry(job_id).status())

    def parts(self) -> dict[str, Any]:
        """What no stream has been given yet."""
        parts = take_parts(self.ctx, self.status)
        return {"status": state_of(self.status), "stream": parts}

    def queue_position(self) -> int | None:
        """The place of the job's message among those that no worker has taken."""
        return None if self.status.ended else Job(self.ctx, self.status.job_id).queue_position()

    def webhook(self) -> WebhookStatus | None:
        """The delivery of the job's webhook, once the job has ended."""
        return Job(self.ctx, self.status.job_id).webhook() if self.status.ended else None
