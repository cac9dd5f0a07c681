"""GPU seconds on serverless endpoints in this hour: spent, and reserved by what runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict

from farm.registry.formats import dump, load
from farm.registry.keys import spending_key
from farm.registry.records import Change, RecordStore

HOUR_S = 3600


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Reservation(_Record):
    """GPU seconds that a running attempt is expected to take."""

    gpu_s: float
    until: float
    """When the attempt has certainly ended."""


class Spending(_Record):
    """The record of one endpoint. Each rule returns it after a change, or None if it refuses."""

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
        """What was spent, and what is reserved."""
        return self.spent_s + sum(each.gpu_s for each in self.reserved.values())

    def at(self, now: float) -> Self:
        """The record in the hour of `now`, without what has certainly ended."""
        hour = int(now // HOUR_S)
        return type(self)(
            hour=hour,
            spent_s=self.spent_s if hour == self.hour else 0.0,
            reserved={name: each for name, each in self.reserved.items() if each.until > now},
        )

    def with_reservation(
        self, attempt_id: str, reservation: Reservation, *, limit_s: float
    ) -> Self | None:
        if self.committed_s + reservation.gpu_s > limit_s:
            return None
        return self._with(reserved={**self.reserved, attempt_id: reservation})

    def extended(self, attempt_id: str, *, until: float) -> Self | None:
        reservation = self.reserved.get(attempt_id)
        if reservation is None:
            return None
        longer = reservation.model_copy(update={"until": until})
        return self._with(reserved={**self.reserved, attempt_id: longer})

    def settled(self, attempt_id: str, gpu_s: float | None) -> Self | None:
        """Once for each reservation, however often it is asked."""
        reservation = self.reserved.get(attempt_id)
        if reservation is None:
            return None
        others = {name: each for name, each in self.reserved.items() if name != attempt_id}
        cost_s = reservation.gpu_s if gpu_s is None else gpu_s
        return self._with(spent_s=self.spent_s + cost_s, reserved=others)

    def _with(self, **changes: object) -> Self:
        return self.model_copy(update=changes)


Rule = Callable[[Spending], Spending | None]


class SpendingRegistry:
    """The spending on each endpoint."""

    def __init__(self, records: RecordStore) -> None:
        self._records = records

    def of(self, endpoint: str) -> Spending:
        """What this hour has cost so far."""
        (text,) = self._records.read(spending_key(endpoint))
        return self._parse(text).at(self._records.backend.now())

    def reserve(
        self, endpoint: str, attempt_id: str, gpu_s: float, *, until: float, limit_s: float
    ) -> bool:
        """Reserves GPU seconds of this hour; False if the limit leaves no room for them."""
        reservation = Reservation(gpu_s=gpu_s, until=until)
        return self._change(
            endpoint, lambda now: now.with_reservation(attempt_id, reservation, limit_s=limit_s)
        )

    def extend(self, endpoint: str, attempt_id: str, *, until: float) -> None:
        """Keeps a reservation for longer."""
        self._change(endpoint, lambda now: now.extended(attempt_id, until=until))

    def settle(self, endpoint: str, attempt_id: str, gpu_s: float | None) -> None:
        """Replaces a reservation by what was spent; None = as much as was reserved."""
        self._change(endpoint, lambda now: now.settled(attempt_id, gpu_s))

    def _change(self, endpoint: str, rule: Rule) -> bool:
        now = self._records.backend.now()
        change = Change(spending_key(endpoint), self._parse, lambda record: rule(record.at(now)))
        return self._records.change(change) is not None

    def _parse(self, text: str | None) -> Spending:
        return Spending() if text is None else load(text, Spending, name="the spending")
