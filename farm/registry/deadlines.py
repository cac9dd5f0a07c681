"""Time limits of jobs, which the reaper enforces."""

from __future__ import annotations

from collections.abc import Iterator

from farm.job import JobStatus, TimeLimits
from farm.job.time_limits import NO_LIMITS
from farm.registry.backend import Add, Effect, SetText
from farm.registry.formats import dump, load
from farm.registry.keys import DEADLINES, time_limits_key
from farm.registry.records import RecordStore


def deadline_effects(status: JobStatus, limits: TimeLimits) -> Iterator[Effect]:
    """The writes that limit a job that is entered."""
    if limits == NO_LIMITS:
        return
    yield SetText(time_limits_key(status.job_id), dump(limits))
    yield Add(DEADLINES, status.job_id, limits.next_look(status, status.created_at))


class DeadlineRegistry:
    def __init__(self, records: RecordStore) -> None:
        self._records = records
        self._backend = records.backend

    def limits(self, job_id: str) -> TimeLimits:
        """The limits of a job."""
        (text,) = self._records.read(time_limits_key(job_id))
        if text is None:
            return NO_LIMITS
        return load(text, TimeLimits, name=f"job {job_id}: its time limits")

    def due(self) -> list[str]:
        """Ids of jobs that may have exceeded a limit."""
        return self._backend.members_below(DEADLINES, self._backend.now())

    def look_again(self, job_id: str, at: float) -> None:
        """Makes a job due at a time."""
        self._backend.add_member(DEADLINES, job_id, at)

    def remove(self, job_id: str) -> None:
        """Removes a job that has ended; its limits stay known for a retry."""
        self._backend.remove_member(DEADLINES, job_id)
