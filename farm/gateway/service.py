"""What the API does for a tenant, in a thread: it waits for the registry and the store."""

from __future__ import annotations

import re
import time
from typing import Any

from farm.engine.context import Context
from farm.gateway.access import Tenant
from farm.gateway.batch import PREFIX, Videos
from farm.gateway.envelope import Envelope
from farm.gateway.refusal import unknown_job
from farm.gateway.video import CANCELLED_BY, JOB_ID, Video
from farm.registry.statistics import Statistics, read_statistics
from farm.registry.status_record import outline

BATCH_ID = re.compile(PREFIX + JOB_ID.pattern)
STATISTICS_S = 2.0
"""Statistics of the farm are as old as this at most."""


class Service:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._statistics: tuple[float, Statistics] | None = None

    def submit(self, tenant: Tenant, envelope: Envelope) -> dict[str, Any]:
        if envelope.is_batch:
            return Videos.submit(self._ctx, tenant, envelope).answer()
        return Video.submit(self._ctx, tenant, envelope.request, envelope.policy.limits).answer()

    def find(self, tenant: Tenant, job_id: str) -> Video | Videos:
        """A tenant's own job; Refusal 404 for any other."""
        if not BATCH_ID.fullmatch(job_id):
            return Video.find(self._ctx, tenant, job_id)
        batch = self._ctx.registry.batches.read(job_id)
        if batch is None or batch.caller != tenant.caller:
            raise unknown_job(job_id)
        return Videos.of(self._ctx, batch)

    def status(self, tenant: Tenant, job_id: str) -> dict[str, Any]:
        return self.find(tenant, job_id).answer()

    def cancel(self, tenant: Tenant, job_id: str) -> dict[str, Any]:
        return self.find(tenant, job_id).cancel()

    def retry(self, tenant: Tenant, job_id: str) -> dict[str, Any]:
        return self.find(tenant, job_id).retry()

    def parts(self, tenant: Tenant, job_id: str) -> dict[str, Any]:
        return self.find(tenant, job_id).parts()

    def pending(self, tenant: Tenant, job_id: str) -> list[str]:
        """The farm's jobs behind an id that have not ended, in order."""
        return self.find(tenant, job_id).pending

    def purge(self, tenant: Tenant) -> dict[str, Any]:
        """Ends the tenant's jobs that no worker has begun; the reaper closes them."""
        jobs = self._ctx.registry.jobs
        waiting = [each for each in jobs.unfinished(tenant.caller) if each.state == "queued"]
        removed = [jobs.cancel(each.job_id, by=CANCELLED_BY) for each in waiting]
        return {"removed": sum(removed), "status": "completed"}

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

    def _farm_statistics(self) -> Statistics:
        now = time.monotonic()
        if self._statistics is None or now - self._statistics[0] > STATISTICS_S:
            lease_s = self._ctx.settings.lease_s
            self._statistics = now, read_statistics(self._ctx.registry, lease_s=lease_s)
        return self._statistics[1]


def has_ended(text: str | None) -> bool:
    """Whether the record of a job is that of one that has ended, or is gone."""
    return text is None or outline("", text).ended
