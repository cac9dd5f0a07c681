"""The reaper: ends overdue jobs, and dispatches the steps of orphaned jobs again.

Several reapers do no harm, because the right to dispatch is a compare-and-set.
"""

from __future__ import annotations

from dataclasses import dataclass

from celery import Celery

from farm.engine.advance import claim_due_step
from farm.engine.context import Context
from farm.engine.deadlines import end_overdue
from farm.logs import job_context
from farm.queue.brokers import Broker
from farm.queue.dispatch import ending_unreadable, redispatch
from farm.queue.waiting import find_lost_messages


@dataclass(frozen=True)
class Reaper:
    app: Celery
    ctx: Context
    broker: Broker

    def reap(self) -> int:
        """One round; how many steps were dispatched again."""
        registry = self.ctx.registry
        end_overdue(self.ctx)
        thorough = registry.steps.claim_search(every_s=self.ctx.settings.redispatch_after_s)
        self._mark_lost(thorough=thorough)
        unlisted = registry.steps.unlisted() if thorough else set()
        due = [*registry.jobs.orphaned(), *unlisted]
        return sum(redispatch(self.app, self.ctx, job_id, claim_due_step) for job_id in due)

    def _mark_lost(self, *, thorough: bool) -> None:
        registry = self.ctx.registry
        lost = find_lost_messages(
            registry, self.broker, lease_s=self.ctx.settings.lease_s, thorough=thorough
        )
        for job_id, step_id in lost:
            with job_context(job_id), ending_unreadable(self.ctx, job_id):
                registry.steps.mark_lost(job_id, step_id)
