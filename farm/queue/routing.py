"""Which queue the message of a step goes to, and with what priority; needs no Celery."""

from __future__ import annotations

from farm.engine.sources import source_urls
from farm.job import Priority, ResolvedRequest
from farm.route import DOWNLOAD, Queue, Step


def queue_of(step: Step, request: ResolvedRequest) -> Queue:
    """The queue of a step. To wait for servers is the work of threads, which are many."""
    if step == DOWNLOAD and source_urls(request):
        return "downloads"
    if step.spec.queue == "gpu" and request.placement == "local":
        return "gpu-local"
    return step.spec.queue


def priority_of(step: Step, request: ResolvedRequest) -> Priority:
    """A webhook whose receiver is silent must not delay the steps of jobs that have not ended."""
    return "low" if step.spec.runs_after_end else request.priority
