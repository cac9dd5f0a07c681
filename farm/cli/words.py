"""How long a job takes and waits, in words."""

from __future__ import annotations

from collections.abc import Iterator

from farm.estimate import in_words
from farm.job import JobStatus


def age_s(status: JobStatus, now: float) -> float:
    """Seconds since the submission, or until the end."""
    until = status.updated_at if status.ended else now
    return max(0.0, until - status.created_at)


def time_words(status: JobStatus, now: float) -> Iterator[str]:
    """How long a job has taken, and will take."""
    took = in_words(age_s(status, now))
    if status.ended:
        yield f"took {took}"
        return
    yield f"submitted {took} ago"
    if status.started_at is not None:
        yield f"begun {in_words(max(0.0, now - status.started_at))} ago"
    if "eta_s" in status.details:
        yield f"about {in_words(status.details['eta_s'])} left"


def queue_words(position: int | None) -> str:
    """That a job with this place in the queue waits for a worker; nothing without a place."""
    if position is None:
        return ""
    return "next in the queue" if position == 1 else f"{position - 1} before it in the queue"
