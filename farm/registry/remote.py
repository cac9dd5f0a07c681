"""The jobs of serverless endpoints that run attempts: which there are, and what they may cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

from pydantic import BaseModel, ConfigDict

from farm.registry.formats import dump, load
from farm.registry.keys import REMOTE, spending_key
from farm.registry.records import RecordStore

MAX_REMOTE = 5_000
"""Remote jobs that are listed at once."""

HOUR_S = 3600


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RemoteJob(_Record):
    """The job of a serverless endpoint that runs an attempt."""

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


class Reservation(_Record):
    """GPU seconds that a running attempt is expected to take, until when it has ended."""

    gpu_s: float
    until: float


class Spending(_Record):
    """GPU seconds on one endpoint: spent in an hour, and reserved by what runs."""

    hour: int = 0
    """Hours since 1970."""
    spent_s: float = 0.0
    reserved: Mapping[str, Reservation] = {}
    """By attempt."""

    @property
    def text(self) -> str:
        return dump(self)

    @property
    def committed_s(self) -> float:
        return self.spent_s + sum(each.gpu_s for each in self.reserved.values())

    def at(self, now: float) -> Spending:
        """The record in the hour of `now`, without what has certainly ended."""
        hour = int(now // HOUR_S)
        return Spending(
            hour=hour,
            spent_s=self.spent_s if hour == self.hour else 0.0,
            reserved={name: each for name, each in self.reserved.items() if each.until > now},
        )


SpendingRule = Callable[[Spending], Spending | None]


class RemoteRegistry:
    """Remote jobs by endpoint. `StepRegistry.note_remote` adds them."""

    def __init__(self, records: RecordStore) -> None:
        self._records = records
        self._backend = records.backend

    def attempts(self, endpoint: str) -> list[RemoteAttempt]:
        """The attempts that run on an endpoint, as far as is known."""
        found = self._backend.members_between(REMOTE, 0, inf, MAX_REMOTE)
        attempts = [RemoteAttempt(*member.split(" ")) for member, _ in found]
        return [attempt for attempt in attempts if attempt.endpoint == endpoint]

    def forget(self, attempt: RemoteAttempt) -> None:
        """Records that a remote job has ended, or that it was cancelled."""
        self._backend.remove_member(REMOTE, attempt.member)

    def forget_expired(self) -> None:
        """Drops remote jobs whose deadline is over."""
        for member in self._backend.members_below(REMOTE, self._backend.now()):
            self._backend.remove_member(REMOTE, member)

    def reserve(
        self, endpoint: str, attempt_id: str, gpu_s: float, *, until: float, budget_s: float
    ) -> bool:
        """Reserves GPU seconds of this hour; False if they would exceed the budget."""
        now = self._backend.now()
        reservation = Reservation(gpu_s=gpu_s, until=until)

        def rule(spending: Spending) -> Spending | None:
            spent = spending.at(now)
            if spent.committed_s + gpu_s > budget_s:
                return None
            reserved = {**spent.reserved, attempt_id: reservation}
            return spent.model_copy(update={"reserved": reserved})

        return self._change(endpoint, rule) is not None

    def settle(self, endpoint: str, attempt_id: str, gpu_s: float | None) -> None:
        """Replaces a reservation by what was spent; None = as much as was reserved."""
        now = self._backend.now()

        def rule(spending: Spending) -> Spending:
            before = spending.at(now)
            reserved = dict(before.reserved)
            reservation = reserved.pop(attempt_id, None)
            expected_s = reservation.gpu_s if reservation else 0.0
            spent_s = before.spent_s + (expected_s if gpu_s is None else gpu_s)
            return before.model_copy(update={"spent_s": spent_s, "reserved": reserved})

        self._change(endpoint, rule)

    def spending(self, endpoint: str) -> Spending:
        """What this hour has cost so far."""
        (text,) = self._records.read(spending_key(endpoint))
        return self._parse(text).at(self._backend.now())

    def _change(self, endpoint: str, rule: SpendingRule) -> Spending | None:
        return self._records.change(spending_key(endpoint), parse=self._parse, rule=rule)

    def _parse(self, text: str | None) -> Spending:
        return Spending() if text is None else load(text, Spending, name="the spending")
