"""A ledger in Redis or Valkey, shared by every client and worker of a farm."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import chain
from math import inf
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError
from redis.retry import Retry

from farm.errors import FarmUnreachable
from farm.registry.registry import ALONE, Also

PREFIX = "farm:"

CLOCK_S = 10.0
"""How long the broker's clock is counted on here before it is asked again: two clocks part by far less than 1 ms."""

PASSING = "MISCONF", "NOREPLICAS"
"""How refusals begin that are over once the disk has room, or a replica is there."""

SWAP = """
local found = redis.call('GET', KEYS[1])
if (found or '') ~= ARGV[1] then return found end
for place, key in ipairs(KEYS) do
  local verb, text, score = unpack(ARGV, 3 * place - 1, 3 * place + 1)
  if verb == 'SET' then redis.call('SET', key, text)
  elseif verb == 'XADD' then redis.call('XADD', key, '*', 'event', text)
  elseif verb == 'ZREM' then redis.call('ZREM', key, text)
  else redis.call('ZADD', key, verb, score, text) end
end
return found
"""
"""Redis keeps all or nothing of what a script writes, on disk too."""


class RedisLedger:
    def __init__(self, url: str) -> None:
        # A silent peer is noticed after 30 s instead of never; the check finds a connection that NAT has dropped, and a
        # second try one that the broker has.
        self.redis = _Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=30,
            socket_keepalive=True,
            health_check_interval=25,
            retry=Retry(NoBackoff(), 1),
        )
        self._swap = self.redis.register_script(SWAP)
        self._clock: tuple[float, float] | None = None

    def get_all(self, keys: Sequence[str]) -> list[str | None]:
        texts: Any = self.redis.mget([PREFIX + key for key in keys])
        return cast(list[str | None], texts)

    def swap(self, key: str, old: str | None, new: str, also: Also = ALONE) -> str | None:
        acts: dict[str, tuple[str, str, float]] = {
            **{name: ("SET", text, 0.0) for name, text in {key: new, **also.texts}.items()},
            **{name: ("XADD", text, 0.0) for name, text in also.events.items()},
            **{name: ("NX", member, score) for name, (member, score) in also.members.items()},
            **{name: ("XX", member, score) for name, (member, score) in also.scores.items()},
            **{name: ("INCR", member, 1.0) for name, member in also.counted.items()},
            **{name: ("ZREM", member, 0.0) for name, member in also.gone.items()},
        }
        words: Iterator[Any] = chain.from_iterable(acts.values())
        found: Any = self._swap(keys=[PREFIX + name for name in acts], args=[old or "", *words])
        return cast(str | None, found)

    def delete(self, key: str) -> None:
        self.redis.delete(PREFIX + key)

    def read_after(self, key: str, position: str, wait_s: float) -> list[tuple[str, str]]:
        streams: Any = self.redis.xread({PREFIX + key: position}, block=max(1, int(wait_s * 1000)))
        return [(place, fields["event"]) for _, entries in streams for place, fields in entries]

    def index(self, name: str, member: str, score: float) -> None:
        self.redis.zadd(PREFIX + name, {member: score})

    def unindex(self, name: str, member: str) -> None:
        self.redis.zrem(PREFIX + name, member)

    def highest(self, name: str, start: int, limit: int) -> list[str]:
        members: Any = self.redis.zrevrange(PREFIX + name, start, start + limit - 1)
        return list(members)

    def up_to(self, name: str, score: float) -> list[str]:
        members: Any = self.redis.zrangebyscore(PREFIX + name, "-inf", score)
        return list(members)

    def between(self, name: str, low: float, high: float, limit: int) -> list[tuple[str, float]]:
        found: Any = self.redis.zrangebyscore(PREFIX + name, f"({low}", high, start=0, num=limit, withscores=True)
        return [(member, float(score)) for member, score in found]

    def size(self, name: str, high: float = inf) -> int:
        return self.redis.zcount(PREFIX + name, "-inf", high)

    def now(self) -> float:
        """The broker's clock. It is not asked each time: that would be every fifth request of a job."""
        here = time.monotonic()
        if self._clock is None or here - self._clock[0] > CLOCK_S:
            seconds, microseconds = self.redis.time()
            self._clock = here, seconds + microseconds / 1e6
        asked, was = self._clock
        return round(was + here - asked, 6)  # as fine as it tells it; a datetime holds no more


class _Redis(redis.Redis):
    """redis-py's client, with a sentence for the user when nobody answers or nothing is taken."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute_command(*args, **options)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            hint = "is the farm up? (`farm up` starts one)"
            raise FarmUnreachable(f"no broker answers at {self._address}; {hint} ({error})") from error
        except NoScriptError:  # redis-py loads it then
            raise
        except redis.ResponseError as error:
            passing = isinstance(error, OutOfMemoryError | ReadOnlyError) or str(error).startswith(PASSING)
            said = "takes nothing just now" if passing else "refuses"
            raise FarmUnreachable(f"the broker at {self._address} {said} ({error})", retryable=passing) from error

    @property
    def _address(self) -> str:
        where = self.connection_pool.connection_kwargs
        return f"{where.get('host')}:{where.get('port')}"
