"""The time that a serverless job may take, before its platform ends it without a word."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

Clock = Callable[[], float]

RESERVE_S = 10.0
RESERVE_SHARE = 0.1
"""What is kept for ending and for posting the answer: seconds, of a short limit this share."""

CHUNK_MARGIN = 1.25
"""A chunk may take this much longer than the longest one so far."""


@dataclass
class TimeLimit:
    """None of them is over as long as `limit_s` is None."""

    limit_s: float | None
    clock: Clock = time.monotonic
    started_at: float = field(init=False)
    longest_chunk_s: float = 0.0

    def __post_init__(self) -> None:
        self.started_at = self.clock()

    def is_up(self) -> bool:
        """Whether only the reserve is left."""
        return self._left_s() <= 0

    def allows_chunk(self) -> bool:
        """Whether another chunk certainly ends in time."""
        return self._left_s() > CHUNK_MARGIN * self.longest_chunk_s

    def note_chunk(self, took_s: float) -> None:
        self.longest_chunk_s = max(self.longest_chunk_s, took_s)

    def _left_s(self) -> float:
        if self.limit_s is None:
            return float("inf")
        reserve_s = min(RESERVE_S, RESERVE_SHARE * self.limit_s)
        return self.started_at + self.limit_s - reserve_s - self.clock()
