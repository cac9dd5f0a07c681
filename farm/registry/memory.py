"""A ledger in this process's memory, for tests and for jobs that run in one process."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence


class MemoryLedger:
    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.streams: defaultdict[str, list[str]] = defaultdict(list)
        self.indices: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self.changed = threading.Condition()

    def get(self, key: str) -> str | None:
        return self.texts.get(key)

    def get_all(self, keys: Sequence[str]) -> list[str | None]:
        return [self.texts.get(key) for key in keys]

    def swap(self, key: str, old: str | None, new: str) -> bool:
        with self.changed:
            if self.texts.get(key) != old:
                return False
            self.texts[key] = new
            return True

    def delete(self, key: str) -> None:
        with self.changed:
            self.texts.pop(key, None)
            self.streams.pop(key, None)

    def append(self, key: str, text: str) -> None:
        with self.changed:
            self.streams[key].append(text)
            self.changed.notify_all()

    def read_after(self, key: str, position: str, wait_s: float) -> list[tuple[str, str]]:
        start = int(position)
        with self.changed:
            self.changed.wait_for(lambda: len(self.streams[key]) > start, timeout=wait_s)
            return [(str(place), text) for place, text in enumerate(self.streams[key][start:], start + 1)]

    def index(self, name: str, member: str, score: float) -> None:
        with self.changed:
            self.indices[name].setdefault(member, score)

    def unindex(self, name: str, member: str) -> None:
        with self.changed:
            self.indices[name].pop(member, None)

    def newest(self, name: str, limit: int) -> list[str]:
        with self.changed:
            ranked = sorted(self.indices[name].items(), key=lambda entry: (entry[1], entry[0]), reverse=True)
        return [member for member, _ in ranked[: None if limit < 0 else limit]]

    def now(self) -> float:
        return time.time()
