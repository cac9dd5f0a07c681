"""How long a job may wait and run."""

from __future__ import annotations

from farm.errors import TimedOut
from farm.job.contract import Contract
from farm.job.status import JobStatus


class TimeLimits(Contract):
    """Limits of one job in seconds; None = no limit."""

    ttl_s: float | None = None
    """From its submission to its end."""
    execution_s: float | None = None
    """From its start to its end."""

    def next_look(self, status: JobStatus, now: float) -> float:
        """When a job may have exceeded a limit at the earliest, as far as is known now.

        One that has not started yet cannot run for too long before `execution_s` from now.
        """
        started_at = now if status.started_at is None else status.started_at
        ends = [
            begin + limit_s
            for begin, limit_s in (
                (status.created_at, self.ttl_s),
                (started_at, self.execution_s),
            )
            if limit_s is not None
        ]
        return min(ends, default=float("inf"))

    def exceeded(self, status: JobStatus, now: float) -> TimedOut | None:
        """The error of a job that has exceeded a limit."""
        if self.ttl_s is not None and status.created_at + self.ttl_s <= now:
            return TimedOut(
                f"it has not ended within {self.ttl_s:g} s of its submission (policy.ttl)"
            )
        started_at = status.started_at
        if self.execution_s is None or started_at is None or started_at + self.execution_s > now:
            return None
        return TimedOut(
            f"it has not ended within {self.execution_s:g} s of its start (policy.executionTimeout)"
        )


NO_LIMITS = TimeLimits()
