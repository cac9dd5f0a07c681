"""How often webhooks call each host, counted over all workers of the farm."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict

from farm.errors import VersionSkew
from farm.registry.formats import dump, load
from farm.registry.keys import CALLS
from farm.registry.records import Change, RecordStore

MAX_DELAY_S = 600.0
"""A delayed call asks again after this time at the latest, however many are before it."""

_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)


class HostCalls(BaseModel):
    """The calls to one host, as a leaky bucket that holds a minute's worth and leaks as much."""

    model_config = _STRICT

    filled: float = 0
    turn_at: float = 0
    """When the call that was delayed last may ask again."""


class CallsRecord(BaseModel):
    """Hosts that were called in the last minute, or have delayed calls, as they were at `at`.

    Times are seconds since 1970 on the backend's clock.
    """

    model_config = _STRICT

    at: float = 0
    hosts: dict[str, HostCalls] = {}

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """The record in a text; one of another version, which is about a minute, counts as new."""
        try:
            return load(text, cls, name="the record of webhook calls") if text else cls()
        except VersionSkew:
            return cls()

    @property
    def text(self) -> str:
        return dump(self)

    def leaked(self, now: float, *, per_minute: int) -> Self:
        """The record as it is now; a clock that was set back leaks nothing."""
        leak = max(0.0, now - self.at) * per_minute / 60
        hosts = {
            host: HostCalls(filled=max(0.0, calls.filled - leak), turn_at=calls.turn_at)
            for host, calls in self.hosts.items()
            if calls.filled > leak or calls.turn_at > now
        }
        return type(self)(at=now, hosts=hosts)

    def called(self, host: str, *, per_minute: int) -> Self | None:
        """The record with one more call; None if its host has had as many as it may."""
        calls = self.hosts.get(host, HostCalls())
        if calls.filled + 1 > per_minute:
            return None
        return self._with(host, filled=calls.filled + 1, turn_at=calls.turn_at)

    def delayed(self, host: str, *, per_minute: int) -> Self:
        """The record with a turn for one more call, behind those that were delayed before."""
        calls = self.hosts.get(host, HostCalls())
        interval_s = 60 / per_minute
        free_at = self.at + (calls.filled + 1 - per_minute) * interval_s
        turn_at = max(free_at, calls.turn_at + interval_s)
        return self._with(host, filled=calls.filled, turn_at=min(turn_at, self.at + MAX_DELAY_S))

    def _with(self, host: str, *, filled: float, turn_at: float) -> Self:
        hosts = {**self.hosts, host: HostCalls(filled=filled, turn_at=turn_at)}
        return type(self)(at=self.at, hosts=hosts)


class WebhookRegistry:
    def __init__(self, records: RecordStore) -> None:
        self._records = records

    def take_call(self, host: str, *, per_minute: int) -> float:
        """Counts a call to a host that may be made now, and returns 0.

        If the host has had its calls, none is counted: the seconds after which to ask again.
        """
        now = self._records.backend.now()

        def called(record: CallsRecord) -> CallsRecord | None:
            return record.leaked(now, per_minute=per_minute).called(host, per_minute=per_minute)

        def delayed(record: CallsRecord) -> CallsRecord:
            return record.leaked(now, per_minute=per_minute).delayed(host, per_minute=per_minute)

        if self._records.change(Change(CALLS, CallsRecord.parse, called)) is not None:
            return 0.0
        record = self._records.change(Change(CALLS, CallsRecord.parse, delayed))
        return record.hosts[host].turn_at - now if record else MAX_DELAY_S
