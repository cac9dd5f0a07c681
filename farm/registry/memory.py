"""A ledger in this process's memory, for tests and for jobs that run in one process."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from math import inf

from farm.registry.registry import ALONE, Also


class MemoryLedger:
    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.streams: defaultdict[str, list[str]] = defaultdict(list)
        self.indices: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self.changed = threading.Condition()

    def get_all(self, keys: Sequence[str]) -> list[str | None]:
        with self.changed:
            return [self.texts.get(key) for key in keys]

    def swap(self, key: str, old: str | None, new: str, also: Also = ALONE) -> str | None:
        with self.changed:
            found = self.texts.get(key)
            if found == old:
                self.texts |= {key: new, **also.texts}
                for stream, event in also.events.items():
                    self.streams[stream].append(event)
                for name, (member, score) in also.members.items():
                    self.indices[name].setdefault(member, score)
                for name, (member, score) in also.scores.items():
                    if member in self.indices[name]:
                        self.indices[name][member] = score
                for name, member in also.counted.items():
                    self.indices[name][member] = self.indices[name].get(member, 0) + 1
                for name, member in also.gone.items():
                    self.indices[name].pop(member, None)
                self.changed.notify_all()
            return found

    def delete(self, key: str) -> None:
        with self.changed:
            self.texts.pop(key, None)
            self.streams.pop(key, None)

    def read_after(self, key: str, position: str, wait_s: float) -> list[tuple[str, str]]:
        start = int(position)
        with self.changed:
            self.changed.wait_for(lambda: len(self.streams[key]) > start, timeout=wait_s)
            return [(str(place), text) for place, text in enumerate(self.streams[key][start:], start + 1)]

    def index(self, name: str, member: str, score: float) -> None:
        with self.changed:
            self.indices[name][member] = score

    def unindex(self, name: str, member: str) -> None:
        with self.changed:
            self.indices[name].pop(member, None)

    def highest(self, name: str, start: int, limit: int) -> list[str]:
        return self._ranked(name, inf)[::-1][start : start + limit]

    def up_to(self, name: str, score: float) -> list[str]:
        return self._ranked(name, score)

    def between(self, name: str, low: float, high: float, limit: int) -> list[tuple[str, float]]:
        with self.changed:
            scores = sorted((score, member) for member, score in self.indices[name].items() if low < score <= high)
        return [(member, score) for score, member in scores[:limit]]

    def size(self, name: str, high: float = inf) -> int:
        return len(self._ranked(name, high))

    def now(self) -> float:
        return time.time()

    def _ranked(self, name: str, highest: float) -> list[str]:
        with self.changed:
            return [
                member
                for score, member in sorted(
                    (score, member) for member, score in self.indices[name].items() if score <= highest
                )
            ]
