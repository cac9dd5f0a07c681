"""How long a job may wait and run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, ValidationError

from farm.errors import TimedOut
from farm.job.contract import Contract
from farm.job.status import JobStatus
from farm.validation import invalid_input


class TimeLimits(Contract):
    """Limits of one job in seconds; None = no limit."""

    ttl_s: float | None = Field(
        default=None, gt=0, description="seconds from a job's submission to its end, above 0"
    )
    execution_s: float | None = Field(
        default=None,
        gt=0,
        description="seconds from the start of a job's first step to its end, above 0",
    )

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Self:
        """The limits in a plain object; InvalidInput."""
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise invalid_input(error, cls) from None

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
            return TimedOut(f"it has not ended within {self.ttl_s:g} s of its submission (ttl_s)")
        started_at = status.started_at
        if self.execution_s is None or started_at is None or started_at + self.execution_s > now:
            return None
        return TimedOut(
            f"it has not ended within {self.execution_s:g} s of its start (execution_s)"
        )


NO_LIMITS = TimeLimits()
