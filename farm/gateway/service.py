"""What the API does for a tenant, in a thread: it waits for the registry and the store."""

from __future__ import annotations

import re
import time
from typing import Any

from farm.client import Job
from farm.engine.advance import chunk_count
from farm.engine.context import Context
from farm.errors import InvalidInput
from farm.gateway.access import Tenant
from farm.gateway.answers import brief, state_of, whole
from farm.gateway.envelope import Envelope
from farm.gateway.refusal import refuse, unknown_job
from farm.gateway.stream import take_parts
from farm.job import JobStatus, TimeLimits
from farm.registry.statistics import Statistics, read_statistics
from farm.registry.status_record import outline
from farm.route import DOWNLOAD, Step, next_step

JOB_ID = re.compile("[0-9a-f]{32}")
STATISTICS_S = 2.0
"""Statistics of the farm are as old as this at most."""

CANCELLED_BY = "the API"


class Service:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._statistics: tuple[float, Statistics] | None = None

    def submit(self, tenant: Tenant, envelope: Envelope) -> dict[str, Any]:
        """A new job, or the one with the same idempotency key."""
        return self._submit(tenant, envelope.request, envelope.policy.limits)

    def status(self, tenant: Tenant, job_id: str) -> dict[str, Any]:
        return self._answer(owned(tenant, job_id))

    def cancel(self, tenant: Tenant, job_id: str) -> dict[str, Any]:
        """Ends a job; one that has ended stays as it is."""
        job = Job(self._ctx, owned(tenant, job_id).job_id)
        job.cancel(by=CANCELLED_BY)
        return brief(job.status())

    def retry(self, tenant: Tenant, job_id: str) -> dict[str, Any]:
        """A new job of the same request. Repeated, it is the same one, unless that failed too."""
        status = owned(tenant, job_id)
        limits = self._ctx.registry.deadlines.limits(job_id)
        while True:
            if status.state != "error":
                got = state_of(status)
                raise refuse(409, f"id: the job is {got}; allowed: one that is FAILED or TIMED_OUT")
            request = self._ctx.registry.jobs.request(status.job_id)
            key = f"retry of {status.job_id}"
            fields = {**request.model_dump(mode="json"), "idempotency_key": key}
            answer = self._submit(tenant, fields, limits)
            status = self._ctx.registry.jobs.status(answer["id"])
            if status.state != "error":
                return answer

    def purge(self, tenant: Tenant) -> dict[str, Any]:
        """Ends the tenant's jobs that no worker has begun; the reaper closes them."""
        jobs = self._ctx.registry.jobs
        waiting = [each for each in jobs.unfinished(tenant.caller) if each.state == "queued"]
        removed = [jobs.cancel(each.job_id, by=CANCELLED_BY) for each in waiting]
        return {"removed": sum(removed), "status": "completed"}

    def parts(self, tenant: Tenant, job_id: str) -> dict[str, Any]:
        """What a stream has not been given yet."""
        status = owned(tenant, job_id)
        parts = take_parts(self._ctx, status)
        return {"status": state_of(status), "stream": parts}

    def health(self, tenant: Tenant) -> dict[str, Any]:
        """The tenant's jobs, and the GPUs of the farm."""
        jobs = self._ctx.registry.jobs
        states = [status.state for status in jobs.unfinished(tenant.caller)]
        ended = jobs.ended_counts(tenant.caller)
        statistics = self._farm_statistics()
        gpus = statistics.workers["gpu"]
        running = min(gpus, statistics.running["generate"])
        return {
            "jobs": {
                "completed": ended["success"],
                "failed": ended["error"],
                "inProgress": states.count("running"),
                "inQueue": states.count("queued"),
                "retried": 0,
            },
            "workers": {
                "idle": gpus - running,
                "initializing": 0,
                "ready": gpus,
                "running": running,
                "throttled": 0,
                "unhealthy": 0,
            },
        }

    def is_ready(self) -> None:
        """Raises FarmUnreachable while the registry does not answer."""
        self._ctx.registry.keys.any_created()

    def _submit(self, tenant: Tenant, fields: dict[str, Any], limits: TimeLimits) -> dict[str, Any]:
        job = tenant.farm.submit(tenant.with_priority(fields), limits=limits)
        return self._answer(job.status())

    def _answer(self, status: JobStatus) -> dict[str, Any]:
        position = None if status.ended else self._queue_position(status.job_id)
        return whole(status, now=self._ctx.registry.now(), queue_position=position)

    def _queue_position(self, job_id: str) -> int | None:
        """The place of the job's message among those that no worker has taken."""
        steps = self._ctx.registry.steps
        step_id = steps.current_step_id(job_id)
        step: Step | None = DOWNLOAD
        if step_id is not None:
            step = Step.parse(step_id)
            if steps.committed(job_id, step_id) is not None:
                step = next_step(step, chunks=chunk_count(self._ctx, job_id))
        return None if step is None else steps.queue_position(job_id, step.id)

    def _farm_statistics(self) -> Statistics:
        now = time.monotonic()
        if self._statistics is None or now - self._statistics[0] > STATISTICS_S:
            lease_s = self._ctx.settings.lease_s
            self._statistics = now, read_statistics(self._ctx.registry, lease_s=lease_s)
        return self._statistics[1]


def owned(tenant: Tenant, job_id: str) -> JobStatus:
    """The status of a tenant's own job; Refusal 404 for any other."""
    if not JOB_ID.fullmatch(job_id):
        raise unknown_job(job_id)
    try:
        return tenant.farm.job(job_id).status()
    except InvalidInput:
        raise unknown_job(job_id) from None


def has_ended(text: str | None) -> bool:
    """Whether the record of a job is that of one that has ended, or is gone."""
    return text is None or outline("", text).ended
