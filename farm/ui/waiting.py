"""For what a job waits, and about how long."""

from __future__ import annotations

from farm.client import Farm, Job
from farm.estimate import chunk_s
from farm.job import JobStatus
from farm.ui import view


def waiting(farm: Farm, job: Job, status: JobStatus) -> str:
    """For what a job waits; empty if it does not, or that is not known."""
    position = None if status.ended else job.queue_position()
    if position is None:
        return ""
    if not _needs_gpu(status):
        return view.waiting("a worker", position)
    estimator = farm.estimator()
    workers = estimator.load.workers if estimator.load else 0
    request = job.request()
    pace = estimator.pace(request.model)
    turns_s = position * chunk_s(request) * pace.ratio
    worker = "a worker" if pace.on_cpu else "a GPU"
    return view.waiting(worker, position, turns_s / workers if workers else None)


def _needs_gpu(status: JobStatus) -> bool:
    """Whether the next step of a waiting job is a chunk."""
    chunk = status.details.get("chunk")
    if chunk is None:
        return status.stage == "embeddings_ok"
    return bool(chunk + 1 < status.details["chunks"])
