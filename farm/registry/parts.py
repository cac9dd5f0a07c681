"""Streams of jobs: which parts of a video were delivered, each to one reader once."""

from __future__ import annotations

from farm.registry.backend import RegistryBackend
from farm.registry.keys import parts_key


class PartRegistry:
    def __init__(self, backend: RegistryBackend) -> None:
        self._backend = backend

    def taken(self, job_id: str) -> int:
        """How many parts were delivered."""
        (text,) = self._backend.get_all([parts_key(job_id)])
        return int(text or 0)

    def take(self, job_id: str, available: int) -> range:
        """The numbers of the parts, of those that are available, that this caller hands out."""
        taken = self.taken(job_id)
        while taken < available:
            old = str(taken) if taken else None
            found = self._backend.compare_and_set(parts_key(job_id), old, str(available))
            if found == old:
                return range(taken, available)
            taken = int(found or 0)
        return range(0)
