"""A backend in the memory of this process, for tests and for jobs that run in one process."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from math import inf

from farm.registry.backend import (
    EVENTS,
    Add,
    Append,
    Effect,
    Effects,
    Increment,
    RegistryBackend,
    Remove,
    Score,
    SetText,
    Swap,
)


class MemoryBackend(RegistryBackend):
    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.streams: defaultdict[str, list[str]] = defaultdict(list)
        self.indices: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self.changed = threading.Condition()

    def get_all(self, keys: Sequence[str]) -> list[str | None]:
        with self.changed:
            return [self.texts.get(key) for key in keys]

    def swap(self, swaps: Sequence[Swap], effects: Effects = ()) -> list[str | None] | None:
        with self.changed:
            found = [self.texts.get(swap.key) for swap in swaps]
            if found != [swap.old for swap in swaps]:
                return found
            self.texts.update({swap.key: swap.new for swap in swaps})
            for effect in effects:
                self._apply(effect)
            self.changed.notify_all()
            return None

    def delete(self, *keys: str) -> None:
        with self.changed:
            for key in keys:
                self.texts.pop(key, None)
                self.streams.pop(key, None)

    def read_after(self, stream: str, position: str, wait_s: float) -> list[tuple[str, str]]:
        start = int(position)
        with self.changed:
            self.changed.wait_for(lambda: len(self.streams[stream]) > start, timeout=wait_s)
            events = self.streams[stream][start : start + EVENTS]
        return [(str(number), text) for number, text in enumerate(events, start + 1)]

    def add_member(self, index: str, member: str, score: float) -> None:
        with self.changed:
            self.indices[index][member] = score

    def remove_member(self, index: str, member: str) -> None:
        with self.changed:
            self.indices[index].pop(member, None)

    def score(self, index: str, member: str) -> float | None:
        with self.changed:
            return self.indices[index].get(member)

    def newest_members(self, index: str, start: int, limit: int, *, high: float = inf) -> list[str]:
        return self.members_below(index, high)[::-1][start : start + limit]

    def members_below(self, index: str, score: float) -> list[str]:
        return [member for member, own in self._sorted(index) if own <= score]

    def members_between(
        self, index: str, low: float, high: float, limit: int
    ) -> list[tuple[str, float]]:
        found = [(member, own) for member, own in self._sorted(index) if low < own <= high]
        return found[:limit]

    def size(self, index: str, high: float = inf) -> int:
        return len(self.members_below(index, high))

    def now(self) -> float:
        return self.wall_time()

    def wall_time(self) -> float:
        return time.time()

    def _sorted(self, index: str) -> list[tuple[str, float]]:
        """Members by score, and by name where that is equal, as Redis sorts them."""
        with self.changed:
            return sorted(self.indices[index].items(), key=lambda item: (item[1], item[0]))

    def _apply(self, effect: Effect) -> None:
        match effect:
            case SetText(key, text):
                self.texts[key] = text
            case Append(stream, event):
                self.streams[stream].append(event)
            case Add(index, member, score):
                self.indices[index].setdefault(member, score)
            case Score(index, member, score):
                if member in self.indices[index]:
                    self.indices[index][member] = score
            case Increment(index, member, by):
                self.indices[index][member] = self.indices[index].get(member, 0) + by
            case Remove(index, member):
                self.indices[index].pop(member, None)
