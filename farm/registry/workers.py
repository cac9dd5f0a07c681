"""The workers that are alive: each reports itself every few seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import inf

from farm.registry.backend import RegistryBackend
from farm.registry.keys import COLD, MODELS, VOICES, WORKERS
from farm.route import Queue

ALIVE_S = 30.0
"""A worker counts as alive for this long after a heartbeat."""

MAX_WORKERS = 2_000
"""Workers that are counted."""

REMEMBERED_S = 86_400.0
"""How long models stay known that no live worker serves, as when workers are scaled to zero."""

MAX_ANNOUNCED = 100
"""Models, and lists of voices."""


def worker_name(queue: Queue, host: str, pid: int, slots: int | None = None) -> str:
    """The name of a worker for one of the queues that it consumes.

    That of a bridge ends with the number of its slots, each of which counts as a worker.
    """
    name = f"{queue} {host} {pid}"
    return name if slots is None else f"{name} {slots}"


class WorkerRegistry:
    """A worker's name begins with its queue and a space."""

    def __init__(self, backend: RegistryBackend) -> None:
        self._backend = backend

    def heartbeat(self, worker: str) -> None:
        """Records that a worker is alive now."""
        self._backend.add_member(WORKERS, worker, self._backend.now())

    def report_cold(self, worker: str) -> None:
        """Records that a live gpu worker could not load its model."""
        self._backend.add_member(COLD, worker, self._backend.now())

    def cold(self) -> list[str]:
        """The names of live gpu workers that could not load their model."""
        return self._seen(COLD, ALIVE_S)

    def announce(self, models: Sequence[str]) -> None:
        """Records what a live gpu worker serves, its default first."""
        now = self._backend.now()
        for rank, model in enumerate(models):
            self._backend.add_member(MODELS, f"{rank} {model}", now)

    def models(self) -> list[str]:
        """The models of live gpu workers, their defaults first; if none lives, those of a day."""
        return self._announced(ALIVE_S) or self._announced(REMEMBERED_S)

    def _announced(self, within_s: float) -> list[str]:
        ranked = sorted(name.split(" ", 1) for name in self._seen(MODELS, within_s))
        return list(dict.fromkeys(model for _, model in ranked))

    def announce_kokoro(self, voices: Sequence[str]) -> None:
        """Records which of Kokoro's voices a live worker has that speaks, perhaps none."""
        self._backend.add_member(VOICES, " ".join(voices), self._backend.now())

    def kokoro_voices(self) -> list[str] | None:
        """Those of live workers; if none lives, of a day. None if no worker has announced any."""
        lists = self._seen(VOICES, ALIVE_S) or self._seen(VOICES, REMEMBERED_S)
        return sorted({voice for each in lists for voice in each.split()}) if lists else None

    def _seen(self, index: str, within_s: float) -> list[str]:
        """What was announced lately."""
        since = self._backend.now() - within_s
        return [name for name, _ in self._backend.members_between(index, since, inf, MAX_ANNOUNCED)]

    def alive(self) -> list[str]:
        """The names of workers with a recent heartbeat."""
        since = self._backend.now() - ALIVE_S
        found = self._backend.members_between(WORKERS, since, inf, MAX_WORKERS)
        return [name for name, _ in found]

    def count_alive(self) -> Counter[str]:
        """Live workers by queue."""
        counted: Counter[str] = Counter()
        for name in self.alive():
            queue, _, _, *slots = name.split(" ")
            counted[queue] += int(*slots) if slots else 1
        return counted

    def count_own_gpus(self) -> int:
        """Live gpu workers of the farm, without the slots of bridges."""
        names = [name.split(" ") for name in self.alive()]
        return sum(queue == "gpu" and not slots for queue, _, _, *slots in names)

    def remove(self, worker: str) -> None:
        """Removes a worker that has shut down."""
        for index in (WORKERS, COLD):
            self._backend.remove_member(index, worker)

    def remove_silent(self, *, silent_s: float) -> None:
        """Removes workers without a heartbeat for that long: those that were killed."""
        for worker in self._backend.members_below(WORKERS, self._backend.now() - silent_s):
            self.remove(worker)
