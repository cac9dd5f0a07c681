"""Messages that no step could be read from, kept in the registry's Redis whatever the broker."""

from __future__ import annotations

from farm.errors import FarmUnreachable
from farm.registry import Registry
from farm.registry.redis import RedisBackend

DEAD_LETTERS = "dead-letters"
"""The list of them, the newest first."""

MAX_DEAD_LETTERS = 1000
MAX_LETTER = 10_000
"""Characters of a dead letter that are kept."""


def require_redis(registry: Registry) -> RedisBackend:
    """The Redis of a registry; FarmUnreachable for one in memory."""
    if not isinstance(registry.backend, RedisBackend):
        raise FarmUnreachable("a registry in memory serves one process only")
    return registry.backend


def store_dead_letter(registry: Registry, letter: str) -> None:
    """Keeps a letter, and drops the oldest of very many."""
    backend = require_redis(registry)
    pipeline = backend.redis.pipeline()
    pipeline.lpush(backend.key(DEAD_LETTERS), letter[:MAX_LETTER])
    pipeline.ltrim(backend.key(DEAD_LETTERS), 0, MAX_DEAD_LETTERS - 1)
    pipeline.execute()


def count_dead_letters(registry: Registry) -> int:
    backend = require_redis(registry)
    return int(backend.redis.llen(backend.key(DEAD_LETTERS)))
