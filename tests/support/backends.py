"""Backends of the registry, and stores, to which a test can do things."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from farm.registry import Registry
from farm.registry.memory import MemoryBackend
from farm.store.memory import MemoryStore


class ClockBackend(MemoryBackend):
    """A backend whose clock a test can advance; its machine's may be `ahead_s` behind."""

    def __init__(self) -> None:
        super().__init__()
        self.advanced_s = 0.0
        self.ahead_s = 0.0

    def now(self) -> float:
        return self.wall_time() + self.ahead_s

    def wall_time(self) -> float:
        return super().wall_time() + self.advanced_s

    def advance(self, seconds: float) -> None:
        self.advanced_s += seconds


class FailoverBackend(MemoryBackend):
    """A backend that fails over to a replica without the writes since it was copied last."""

    def copy_to_replica(self) -> None:
        self._replica = deepcopy((self.texts, self.streams, self.indices))

    def fail_over(self) -> None:
        self.texts, self.streams, self.indices = deepcopy(self._replica)


class CountingBackend:
    """Counts the requests to a backend. Its clock is extrapolated, so reading it is none."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.requests = 0

    def __getattr__(self, name: str) -> Any:
        if name != "now":
            self.requests += 1
        return getattr(self._backend, name)


@contextmanager
def death_at_next_write(backend: Any, *, after: bool) -> Iterator[None]:
    """The life of a process that dies just before its next write, or right after it."""
    swap = backend.swap

    def last_write(*arguments: Any) -> None:
        if after:
            swap(*arguments)
        raise SystemExit

    with pytest.MonkeyPatch.context() as dying:
        dying.setattr(backend, "swap", last_write)
        with pytest.raises(SystemExit):
            yield


class HookedStore(MemoryStore):
    """Before each write it calls the next of `before_put`; it notes what was written from where."""

    def __init__(self) -> None:
        super().__init__()
        self.before_put: list[Callable[[], Any]] = []
        self.sources: list[Path | bytes] = []

    def put(self, key: str, source: Path | bytes) -> None:
        self.sources.append(source)
        if self.before_put:
            self.before_put.pop(0)()
        super().put(key, source)


class Countdown:
    """Ends the process, as a signal would, at the call after the `calls`th."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def tick(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


class Interrupted:
    """A store or backend that ends the process that uses it after so many calls of `methods`."""

    def __init__(self, target: Any, countdown: Countdown, *methods: str) -> None:
        self._target = target
        self._countdown = countdown
        self._methods = methods

    def __getattr__(self, name: str) -> Any:
        if name in self._methods:
            self._countdown.tick()
        return getattr(self._target, name)


def pass_time(registry: Registry, seconds: float) -> None:
    """Sets the clock of the farm forward, as this registry reads it."""
    now = registry.backend.now
    registry.backend.now = lambda: now() + seconds  # type: ignore[method-assign]
