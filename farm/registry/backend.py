"""What the registry needs of a backend: texts changed by compare-and-set, streams, sorted indices
and one clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

EVENTS = 1000
"""Events that are read at once; an hour of video has some 50,000."""

KeepTrying = Callable[[], bool]
"""Whether a request waits for a broker that is down instead of failing; asked before each retry."""


def give_up() -> bool:
    return False


@dataclass(frozen=True)
class SetText:
    """Writes a text, whatever it was before."""

    key: str
    text: str


@dataclass(frozen=True)
class Append:
    """Appends an event to a stream."""

    stream: str
    event: str


@dataclass(frozen=True)
class Add:
    """Adds a member to an index, unless it is there already (ZADD NX)."""

    index: str
    member: str
    score: float


@dataclass(frozen=True)
class Score:
    """Changes the score of a member that the index has; adds nothing (ZADD XX)."""

    index: str
    member: str
    score: float


@dataclass(frozen=True)
class Increment:
    """Adds to the score of a member, which begins at 0 (ZADD INCR)."""

    index: str
    member: str
    by: float = 1


@dataclass(frozen=True)
class Remove:
    """Removes a member from an index (ZREM)."""

    index: str
    member: str


Effect = SetText | Append | Add | Score | Increment | Remove
Effects = Sequence[Effect]
"""Writes applied in order and atomically with successful swaps."""


@dataclass(frozen=True)
class Swap:
    """Writes a text if the one before it is `old`; None: if there is none."""

    key: str
    old: str | None
    new: str


class RegistryBackend(Protocol):
    """Keeps texts and applies writes; the rules of the registry are not its business."""

    def get_all(self, keys: Sequence[str]) -> list[str | None]: ...

    def swap(self, swaps: Sequence[Swap], effects: Effects = ()) -> list[str | None] | None:
        """None once all swaps and effects have been written; else the texts that were found, and
        nothing has been.
        """

    def compare_and_set(
        self, key: str, old: str | None, new: str, effects: Effects = ()
    ) -> str | None:
        """The text that was found; if it equals `old`, `new` and all effects have been written."""
        found = self.swap([Swap(key, old, new)], effects)
        return old if found is None else found[0]

    def delete(self, *keys: str) -> None:
        """Removes texts and streams at once."""

    def read_after(self, stream: str, position: str, wait_s: float) -> list[tuple[str, str]]:
        """The next `EVENTS` events after a position, at most, each with its own; waits up to
        `wait_s` for the first one.
        """

    def add_member(self, index: str, member: str, score: float) -> None: ...

    def remove_member(self, index: str, member: str) -> None: ...

    def score(self, index: str, member: str) -> float | None:
        """The score of a member; None if the index has no such member."""

    def newest_members(self, index: str, start: int, limit: int, *, high: float = inf) -> list[str]:
        """Members from the highest score that is not above `high` down, `limit` of them from the
        `start`th on.
        """

    def members_below(self, index: str, score: float) -> list[str]:
        """Members whose score is not above `score`, the lowest first."""

    def members_between(
        self, index: str, low: float, high: float, limit: int
    ) -> list[tuple[str, float]]:
        """Members whose score is above `low` and not above `high`, with it, the lowest first."""

    def size(self, index: str, high: float = inf) -> int:
        """How many members have a score that is not above `high`."""

    def now(self) -> float:
        """Seconds since 1970 on the one clock of the farm, which is never set back."""

    def wall_time(self) -> float:
        """Seconds since 1970 on the clock of the backend's machine."""
