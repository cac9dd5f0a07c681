"""One job of a fake endpoint."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})


@dataclass
class RemoteJob:
    """What the endpoint knows of a job; times are in seconds on the monotonic clock."""

    id: str
    body: dict[str, Any]
    """The submission: `input`, and perhaps `policy` and `webhook`."""
    kept_s: float
    """How long its result is kept."""
    execution_s: float
    ttl_s: float
    is_low_priority: bool = False
    status: str = "IN_QUEUE"
    submitted_at: float = field(default_factory=time.monotonic)
    started_at: float | None = None
    ended_at: float | None = None
    worker: str | None = None
    output: Any = None
    error: Any = None
    runs: list[str] = field(default_factory=list)
    """The worker of each time that it was taken."""
    progress: list[Any] = field(default_factory=list)
    """Every progress update, in the order of arrival."""
    posts: list[dict[str, Any]] = field(default_factory=list)
    """Every result that arrived, also those that came too late to count."""
    parts: list[Any] = field(default_factory=list)
    """Everything that it has yielded."""
    streamed: int = 0
    """How many parts a client has read."""
    history: list[str] = field(default_factory=lambda: ["IN_QUEUE"])

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    def become(self, status: str) -> None:
        self.status = status
        self.history.append(status)
        if self.ended:
            self.ended_at = time.monotonic()

    def view(self) -> dict[str, Any]:
        """The object that clients are shown."""
        now = time.monotonic()
        begun = self.started_at or self.ended_at or now
        shown: dict[str, Any] = {
            "id": self.id,
            "status": self.status,
            "delayTime": int(1000 * (begun - self.submitted_at)),
        }
        if self.started_at is not None:
            shown["executionTime"] = int(1000 * ((self.ended_at or now) - self.started_at))
            shown["workerId"] = self.worker
        shown |= {
            name: value
            for name, value in (("output", self.output), ("error", self.error))
            if value is not None
        }
        return shown

    def is_over(self, now: float) -> bool:
        """Whether its time to live, or its time to run, has passed."""
        if self.ended:
            return False
        too_long = self.started_at is not None and now > self.started_at + self.execution_s
        return too_long or now > self.submitted_at + self.ttl_s

    def is_forgotten(self, now: float) -> bool:
        return self.ended_at is not None and now > self.ended_at + self.kept_s
