"""A backend in Redis or Valkey, shared by every client and worker of a farm."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError
from redis.retry import Retry

from farm.errors import FarmUnreachable, InvalidInput
from farm.logs import log
from farm.net.authorities import checked_authorities
from farm.registry.backend import (
    EVENTS,
    Add,
    Append,
    Effect,
    Effects,
    Increment,
    KeepTrying,
    RegistryBackend,
    Remove,
    Score,
    SetText,
    Swap,
    give_up,
)
from farm.retry import retry_until

CLOCK_S = 10.0
"""Seconds for which the broker's clock is extrapolated before it is read again: in that time two
clocks drift apart by far less than 1 ms.
"""

CLOCK = """
local seconds, micros = unpack(redis.call('TIME'))
local wall = seconds + micros / 1e6
local last_wall, last_farm = unpack(redis.call('HMGET', KEYS[1], 'wall', 'farm'))
local farm = wall
if last_farm then farm = math.max(wall, last_farm + math.max(0, wall - last_wall) * 0.9) end
local times = {string.format('%.6f', wall), string.format('%.6f', farm)}
if not last_farm or math.abs(wall - last_wall) > 1 then
  redis.pcall('HSET', KEYS[1], 'wall', times[1], 'farm', times[2])
end
return times
"""
"""The broker's clock, and the farm's, which is the same unless the broker's was set back: then it
goes on from where it was, a tenth slower, until the broker's has caught up. Otherwise the leases
of dead workers, and retries, would wait for as long as the clock was set back.
"""

TRANSIENT = "MISCONF", "NOREPLICAS"
"""How refusals begin that end once the disk has room, or a replica is there."""

RETRY_DELAY_S = 0.5
MAX_RETRY_DELAY_S = 5.0

SWAP = """
local swaps = tonumber(ARGV[1])
local found = {}
local differs = false
for number = 1, swaps do
  found[number] = redis.call('GET', KEYS[number])
  differs = differs or (found[number] or '') ~= ARGV[number + 1]
end
if differs then return found end
for number, key in ipairs(KEYS) do
  local verb, text, score = unpack(ARGV, swaps + 3 * number - 1, swaps + 3 * number + 1)
  if verb == 'SET' then redis.call('SET', key, text)
  elseif verb == 'XADD' then redis.call('XADD', key, '*', 'event', text)
  elseif verb == 'ZREM' then redis.call('ZREM', key, text)
  else redis.call('ZADD', key, verb, score, text) end
end
"""
"""Arguments: the number of swaps, the old text of each, and a verb, a text and a score for each
key, first those of the swaps. Redis keeps all or nothing of what a script writes, on disk too.
"""


class RedisBackend(RegistryBackend):
    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        ca: Path | None = None,
        keep_trying: KeepTrying = give_up,
        name: str = "broker",
    ) -> None:
        """`name` is what errors call it. InvalidInput if Redis knows no such URL."""
        self.prefix = prefix
        self.redis = _client(url, ca, name)
        self.redis.name = name
        self.redis.keep_trying = keep_trying
        self._swap = self.redis.register_script(SWAP)
        self._read_clock = self.redis.register_script(CLOCK)
        self._clock: tuple[float, float, float] | None = None

    def key(self, name: str) -> str:
        """A key of this farm in Redis."""
        return self.prefix + name

    def get_all(self, keys: Sequence[str]) -> list[str | None]:
        if not keys:
            return []
        texts: Any = self.redis.mget([self.key(key) for key in keys])
        return cast(list[str | None], texts)

    def swap(self, swaps: Sequence[Swap], effects: Effects = ()) -> list[str | None] | None:
        keys = []
        arguments: list[str | float] = [len(swaps), *(swap.old or "" for swap in swaps)]
        for effect in (*(SetText(swap.key, swap.new) for swap in swaps), *effects):
            name, verb, text, score = _operation(effect)
            keys.append(self.key(name))
            arguments += [verb, text, score]
        found: Any = self._swap(keys=keys, args=arguments)
        return cast(list[str | None] | None, found)

    def delete(self, *keys: str) -> None:
        self.redis.delete(*map(self.key, keys))

    def read_after(self, stream: str, position: str, wait_s: float) -> list[tuple[str, str]]:
        wait_ms = max(1, int(wait_s * 1000))
        streams: Any = self.redis.xread({self.key(stream): position}, EVENTS, wait_ms)
        return [(entry, fields["event"]) for _, entries in streams for entry, fields in entries]

    def add_member(self, index: str, member: str, score: float) -> None:
        self.redis.zadd(self.key(index), {member: score})

    def remove_member(self, index: str, member: str) -> None:
        self.redis.zrem(self.key(index), member)

    def score(self, index: str, member: str) -> float | None:
        score: Any = self.redis.zscore(self.key(index), member)
        return cast(float | None, score)

    def newest_members(self, index: str, start: int, limit: int, *, high: float = inf) -> list[str]:
        members: Any = self.redis.zrevrangebyscore(self.key(index), high, "-inf", start, limit)
        return list(members)

    def members_below(self, index: str, score: float) -> list[str]:
        members: Any = self.redis.zrangebyscore(self.key(index), "-inf", score)
        return list(members)

    def members_between(
        self, index: str, low: float, high: float, limit: int
    ) -> list[tuple[str, float]]:
        found: Any = self.redis.zrangebyscore(
            self.key(index), f"({low}", high, start=0, num=limit, withscores=True
        )
        return [(member, float(score)) for member, score in found]

    def size(self, index: str, high: float = inf) -> int:
        return self.redis.zcount(self.key(index), "-inf", high)

    def now(self) -> float:
        _, farm = self._times()
        return farm

    def wall_time(self) -> float:
        wall, _ = self._times()
        return wall

    def _times(self) -> tuple[float, float]:
        """The broker's clock and the farm's, extrapolated: reading them each time would be every
        fifth request.
        """
        here = time.monotonic()
        if self._clock is None or here - self._clock[0] > CLOCK_S:
            found: Any = self._read_clock(keys=[self.key("clock")])
            wall, farm = map(float, found)
            self._clock = here, wall, farm
        read_at, wall, farm = self._clock
        since_s = here - read_at
        return round(wall + since_s, 6), round(farm + since_s, 6)  # Redis knows no finer time


def _client(url: str, ca: Path | None, name: str) -> _Redis:
    # A silent peer is noticed after 30 s instead of never. The health check finds a connection
    # that NAT has dropped, the retry one that the broker has closed.
    try:
        client = _Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=30,
            socket_keepalive=True,
            health_check_interval=25,
            retry=Retry(NoBackoff(), 1),
            **tls_options(url, ca),
        )
    except ValueError:  # its message may hold a part of the password
        raise InvalidInput(
            f"FARM_{name.upper()}_URL: it is no URL that Redis knows; "
            "allowed: redis://:password@host:port/number"
        ) from None
    return cast(_Redis, client)


def tls_options(url: str, ca: Path | None) -> dict[str, Any]:
    """What redis-py and kombu need for TLS, the same names for both; nothing without TLS.

    Both prefer parameters of the URL. By default kombu checks no certificate, and tells any server
    the broker's password.
    """
    if not url.startswith("rediss://"):
        return {}
    options: dict[str, Any] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    if ca is not None:
        options["ssl_ca_certs"] = str(checked_authorities(ca, variable="FARM_BROKER_CA"))
    return options


def _operation(effect: Effect) -> tuple[str, str, str, float]:
    """The key of an effect and the verb, text and score that the script takes."""
    match effect:
        case SetText(key, text):
            return key, "SET", text, 0
        case Append(stream, event):
            return stream, "XADD", event, 0
        case Add(index, member, score):
            return index, "NX", member, score
        case Score(index, member, score):
            return index, "XX", member, score
        case Increment(index, member, by):
            return index, "INCR", member, by
        case Remove(index, member):
            return index, "ZREM", member, 0


class _Redis(redis.Redis):
    """redis-py's client, with a sentence for the user when the broker is silent or refuses."""

    keep_trying: KeepTrying = staticmethod(give_up)
    name = "broker"

    def execute_command(self, *args: Any, **options: Any) -> Any:
        return retry_until(
            partial(self._execute_once, *args, **options),
            timeout_s=inf,
            is_retryable=lambda error: _is_transient(error) and self.keep_trying(),
            delay_s=RETRY_DELAY_S,
            max_delay_s=MAX_RETRY_DELAY_S,
            on_retry=_log_retry,
        )

    def _execute_once(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute_command(*args, **options)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise FarmUnreachable(
                f"no {self.name} answers at {self._address}; {self._hint} ({error})"
            ) from error
        except NoScriptError:  # redis-py loads the script then
            raise
        except redis.ResponseError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: redis.ResponseError) -> FarmUnreachable:
        transient = isinstance(error, OutOfMemoryError | ReadOnlyError)
        if transient or str(error).startswith(TRANSIENT):
            message = f"the {self.name} at {self._address} takes no writes at the moment ({error})"
            return FarmUnreachable(message, retryable=True)
        message = f"the {self.name} at {self._address} refuses ({error})"
        return FarmUnreachable(message, retryable=False)

    @property
    def _hint(self) -> str:
        if issubclass(self.connection_pool.connection_class, redis.SSLConnection):
            return "is it up, and does it speak TLS, as rediss:// says?"
        return "is the farm up? (`farm up` starts one)"

    @property
    def _address(self) -> str:
        where = self.connection_pool.connection_kwargs
        return f"{where.get('host')}:{where.get('port')}"


def _is_transient(error: Exception) -> bool:
    return isinstance(error, FarmUnreachable) and error.retryable


def _log_retry(error: Exception, delay_s: float) -> None:
    log("broker_unreachable", level=logging.WARNING, reason=str(error), retry_after_s=delay_s)
