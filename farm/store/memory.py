"""A store in the memory of this process, for tests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from farm.store import check_key, relative_link


class MemoryStore:
    """Objects in a dict."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._written_at: dict[str, float] = {}

    def put(self, key: str, source: Path | bytes) -> None:
        if isinstance(source, Path):
            source = source.read_bytes()
        self.objects[check_key(key)] = source
        self._written_at[key] = time.time()

    def get(self, key: str) -> bytes:
        return self.objects[key]

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        return self.objects[key][start:stop]

    def fetch(self, key: str, path: Path) -> Path:
        path.write_bytes(self.objects[key])
        return path

    def size(self, key: str) -> int | None:
        if key not in self.objects:
            return None
        return len(self.objects[key])

    def keys(self, prefix: str) -> Iterator[str]:
        return iter(sorted(key for key in self.objects if key.startswith(prefix)))

    def written_at(self, prefix: str) -> dict[str, float]:
        return {key: self._written_at[key] for key in self.keys(prefix)}

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def url(self, key: str) -> str:
        return f"memory:///{key}"

    def link(self, key: str, *, page: str) -> str:
        return relative_link(key, page)
