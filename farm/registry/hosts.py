"""Jobs that wait for their turn to download from a host, the first to come first."""

from __future__ import annotations

from math import inf

from farm.registry.backend import RegistryBackend
from farm.registry.keys import waiting_at


class HostRegistry:
    """A line of waiting jobs for each host, which all workers share."""

    def __init__(self, backend: RegistryBackend) -> None:
        self._backend = backend

    def line_up(self, host: str, job_id: str) -> None:
        """Puts a job at the end of a line."""
        self._backend.add_member(waiting_at(host), job_id, self._backend.now())

    def first(self, host: str, limit: int) -> list[str]:
        """The jobs that have waited longest."""
        found = self._backend.members_between(waiting_at(host), 0, inf, limit)
        return [job_id for job_id, _ in found]

    def leave(self, host: str, job_id: str) -> None:
        self._backend.remove_member(waiting_at(host), job_id)
