"""The workers that are alive: each reports itself every few seconds."""

from __future__ import annotations

from farm.registry.backend import RegistryBackend

WORKERS = "workers"
"""Index of workers, by the time of their last heartbeat."""


class WorkerRegistry:
    """A worker's name begins with its queue and a space."""

    def __init__(self, backend: RegistryBackend) -> None:
        self._backend = backend

    def heartbeat(self, worker: str) -> None:
        """Records that a worker is alive now."""
        self._backend.add_member(WORKERS, worker, self._backend.now())

    def remove(self, worker: str) -> None:
        """Removes a worker that has shut down."""
        self._backend.remove_member(WORKERS, worker)

    def remove_silent(self, *, silent_s: float) -> None:
        """Removes workers without a heartbeat for that long: those that were killed."""
        for worker in self._backend.members_below(WORKERS, self._backend.now() - silent_s):
            self.remove(worker)
