"""A ledger in Redis or Valkey, shared by every client and worker of a farm."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import redis
from redis.exceptions import OutOfMemoryError, ReadOnlyError

from farm.errors import FarmUnreachable

PREFIX = "farm:"

CLOCK_S = 10.0
"""How long the broker's clock is counted on here before it is asked again: two clocks part by far less than 1 ms."""

PASSING = "MISCONF", "NOREPLICAS"
"""How refusals begin that are over once the disk has room, or a replica is there."""

SWAP = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class RedisLedger:
    def __init__(self, url: str) -> None:
        # A silent peer is noticed after 30 s instead of never; the check finds a connection that NAT has dropped.
        self.redis = _Redis.from_url(
            url, decode_responses=True, socket_timeout=30, socket_keepalive=True, health_check_interval=25
        )
        self._swap = self.redis.register_script(SWAP)
        self._clock: tuple[float, float] | None = None

    def get(self, key: str) -> str | None:
        text: Any = self.redis.get(PREFIX + key)
        return cast(str | None, text)

    def get_all(self, keys: Sequence[str]) -> list[str | None]:
        texts: Any = self.redis.mget([PREFIX + key for key in keys])
        return cast(list[str | None], texts)

    def swap(self, key: str, old: str | None, new: str) -> bool:
        return bool(self._swap(keys=[PREFIX + key], args=[old or "", new]))

    def delete(self, key: str) -> None:
        self.redis.delete(PREFIX + key)

    def append(self, key: str, text: str) -> None:
        self.redis.xadd(PREFIX + key, {"event": text})

    def read_after(self, key: str, position: str, wait_s: float) -> list[tuple[str, str]]:
        streams: Any = self.redis.xread({PREFIX + key: position}, block=max(1, int(wait_s * 1000)))
        return [(place, fields["event"]) for _, entries in streams for place, fields in entries]

    def index(self, name: str, member: str, score: float) -> None:
        self.redis.zadd(PREFIX + name, {member: score}, nx=True)

    def unindex(self, name: str, member: str) -> None:
        self.redis.zrem(PREFIX + name, member)

    def newest(self, name: str, limit: int) -> list[str]:
        members: Any = self.redis.zrevrange(PREFIX + name, 0, limit - 1 if limit > 0 else -1)
        return list(members) if limit else []

    def now(self) -> float:
        """The broker's clock. It is not asked each time: that would be every fifth request of a job."""
        here = time.monotonic()
        if self._clock is None or here - self._clock[0] > CLOCK_S:
            seconds, microseconds = self.redis.time()
            self._clock = here, seconds + microseconds / 1e6
        asked, was = self._clock
        return was + here - asked


class _Redis(redis.Redis):
    """redis-py's client, with a sentence for the user when nobody answers or nothing is taken."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute_command(*args, **options)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            hint = "is the farm up? (`farm up` starts one)"
            raise FarmUnreachable(f"no broker answers at {self._address}; {hint} ({error})") from error
        except redis.ResponseError as error:
            if not (isinstance(error, OutOfMemoryError | ReadOnlyError) or str(error).startswith(PASSING)):
                raise
            raise FarmUnreachable(f"the broker at {self._address} takes nothing just now ({error})") from error

    @property
    def _address(self) -> str:
        where = self.connection_pool.connection_kwargs
        return f"{where.get('host')}:{where.get('port')}"
