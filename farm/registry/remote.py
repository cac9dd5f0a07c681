"""The jobs of serverless endpoints that run attempts."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from pydantic import BaseModel, ConfigDict

from farm.registry.backend import RegistryBackend
from farm.registry.keys import REMOTE

MAX_REMOTE = 5_000
"""Remote jobs that are listed at once."""


class RemoteJob(BaseModel):
    """The job of a serverless endpoint that runs an attempt."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    endpoint: str
    id: str | None
    """None while it is being submitted."""
    deadline: float
    """Seconds since 1970 at which it has ended, in whatever way."""


@dataclass(frozen=True)
class RemoteAttempt:
    """An attempt with the remote job that runs it, as a member of the index."""

    job_id: str
    step_id: str
    attempt_id: str
    endpoint: str
    remote_id: str

    @property
    def member(self) -> str:
        """None of its parts has a space."""
        return " ".join((self.job_id, self.step_id, self.attempt_id, self.endpoint, self.remote_id))


class RemoteRegistry:
    """`StepRegistry.note_remote` adds them."""

    def __init__(self, backend: RegistryBackend) -> None:
        self._backend = backend

    def attempts(self) -> list[RemoteAttempt]:
        """The attempts that run on any endpoint, as far as is known."""
        found = self._backend.members_between(REMOTE, 0, inf, MAX_REMOTE)
        return [RemoteAttempt(*member.split(" ")) for member, _ in found]

    def forget(self, attempt: RemoteAttempt) -> None:
        """Records that a remote job has ended, or that it was cancelled."""
        self._backend.remove_member(REMOTE, attempt.member)

    def forget_expired(self) -> None:
        """Drops remote jobs whose deadline is over."""
        for member in self._backend.members_below(REMOTE, self._backend.now()):
            self._backend.remove_member(REMOTE, member)
