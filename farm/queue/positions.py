"""The places of jobs in the queues, as the registry knows them; needs neither broker nor Celery."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter

from farm.job import PRIORITIES
from farm.queue.routing import priority_of, queue_of
from farm.registry import Registry
from farm.route import CONSUMED, Queue, Step, WorkerKind

PLACED = 1000
"""Messages whose places are looked up."""

TAKEN_BY: dict[Queue, WorkerKind] = {
    queue: worker for worker, queues in CONSUMED.items() for queue in queues
}


def queue_positions(registry: Registry) -> dict[str, int]:
    """The place of each job's message, from 1, among those that workers of the same kind take:
    strictly by priority, then in the order in which they were sent.

    Those of jobs that have ended are not counted, as a worker drops them at once. Of a backlog only
    the `PLACED` oldest messages have a place.
    """
    steps = registry.steps.undelivered()[:PLACED]
    requests = registry.jobs.live_requests([job_id for job_id, _ in steps])
    waiting = []
    for job_id, step_id in steps:
        if job_id in requests:
            step, request = Step.parse(step_id), requests[job_id]
            urgency = PRIORITIES.index(priority_of(step, request))
            waiting.append((urgency, TAKEN_BY[queue_of(step, request)], job_id))
    places = {}
    taken: Counter[WorkerKind] = Counter()
    for _, worker, job_id in sorted(waiting, key=itemgetter(0)):
        taken[worker] += 1
        places[job_id] = taken[worker]
    return places
