"""The broker's queues, read as kombu writes them to Redis."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

import redis

from farm.errors import FarmUnreachable
from farm.job import Priority
from farm.queue.app import MESSAGE_PRIORITIES
from farm.registry import Registry
from farm.registry.redis import RedisBackend
from farm.route import QUEUES, STEP_SPECS, Queue, Step

SEPARATOR = "\x06\x16"
"""What kombu writes between the name of a queue and a priority above 0 (kombu.transport.redis)."""

UNACKED = "unacked"
"""The hash in which kombu keeps delivered messages until they are acknowledged."""

DEAD_LETTERS = "dead-letters"
"""The list of messages that no step could be read from, the newest first."""

MAX_DEAD_LETTERS = 1000
MAX_LETTER = 10_000
"""Characters of a dead letter that are kept."""

OLDEST = 5
"""Messages at the head of a queue that are read: the first may be no step's."""


@dataclass(frozen=True)
class QueueState:
    length: int
    oldest: list[tuple[str, str]]
    """Job and step of the oldest messages."""


def _queue_keys() -> dict[tuple[Queue, Priority], str]:
    keys = {}
    for queue, (name, priority) in product(QUEUES, MESSAGE_PRIORITIES.items()):
        keys[queue, name] = f"{queue}{SEPARATOR}{priority}" if priority else queue
    return keys


QUEUE_KEYS = _queue_keys()
"""The Redis list of each queue and priority, behind the farm's prefix, the next message last. The
highest priority has the name of the queue itself.
"""


def broker_of(registry: Registry) -> RedisBackend | None:
    """The broker of a registry; None for one in memory, which has no queues."""
    return registry.backend if isinstance(registry.backend, RedisBackend) else None


def require_broker(registry: Registry) -> RedisBackend:
    """The same; FarmUnreachable for a registry in memory."""
    broker = broker_of(registry)
    if broker is None:
        raise FarmUnreachable("a broker in memory serves one process only")
    return broker


def require_broker_client(registry: Registry) -> redis.Redis:
    """The Redis client of a registry; FarmUnreachable for one in memory."""
    return require_broker(registry).redis


def eviction_policy(client: redis.Redis) -> str | None:
    """What the broker evicts once its memory is full (maxmemory-policy); None if nothing."""
    info: dict[str, Any] = client.info("memory")
    policy: str = info["maxmemory_policy"]
    return None if policy == "noeviction" else policy


def queue_states(broker: RedisBackend) -> tuple[dict[tuple[Queue, Priority], QueueState], int]:
    """Every queue by priority, and the number of messages that are not acknowledged."""
    pipeline = broker.redis.pipeline(transaction=False)
    for key in QUEUE_KEYS.values():
        pipeline.llen(broker.key(key))
        pipeline.lrange(broker.key(key), -OLDEST, -1)
    pipeline.hlen(broker.key(UNACKED))
    *answers, unacked = pipeline.execute()
    lengths = answers[0::2]
    oldest = answers[1::2]
    states = {
        name: QueueState(length, _steps_of(messages))
        for name, length, messages in zip(QUEUE_KEYS, lengths, oldest, strict=True)
    }
    return states, unacked


def store_dead_letter(registry: Registry, letter: str) -> None:
    """Keeps a message that no step could be read from, and drops the oldest of very many."""
    broker = require_broker(registry)
    pipeline = broker.redis.pipeline()
    pipeline.lpush(broker.key(DEAD_LETTERS), letter[:MAX_LETTER])
    pipeline.ltrim(broker.key(DEAD_LETTERS), 0, MAX_DEAD_LETTERS - 1)
    pipeline.execute()


def count_dead_letters(broker: RedisBackend) -> int:
    return int(broker.redis.llen(broker.key(DEAD_LETTERS)))


def find_lost_messages(registry: Registry, *, after_s: float) -> set[tuple[str, str]]:
    """Job and step of messages that were dispatched more than `after_s` ago, are in no queue and
    led to no lease: the sender died, or the worker that received it before it took the lease.

    A worker that is still loading the model looks the same. The queues are read through only if
    they hold fewer messages than have led to no lease.
    """
    missing = set(registry.steps.undelivered(for_s=after_s))
    broker = broker_of(registry)
    if not missing or broker is None:
        return set()
    pipeline = broker.redis.pipeline(transaction=False)
    queues = [broker.key(key) for key in QUEUE_KEYS.values()]
    for queue in queues:
        pipeline.llen(queue)
    queued = sum(pipeline.execute())
    # Younger messages are in the queues too, so all are counted.
    if queued >= len(registry.steps.undelivered(for_s=0)):
        return set()
    for queue in queues:
        pipeline.lrange(queue, 0, -1)
    for messages in pipeline.execute():
        missing.difference_update(_steps_of(messages))
    return missing


def parse_message(message: str) -> tuple[str, str] | None:
    """The job and the step of a message; None if it is not a step's."""
    with suppress(AttributeError, KeyError, TypeError, ValueError, RecursionError):
        envelope: dict[str, Any] = json.loads(message)
        kind = envelope["headers"]["task"].removeprefix("farm.")
        if kind in STEP_SPECS:
            arguments, *_ = json.loads(base64.b64decode(envelope["body"]))
            job_id, *chunk = arguments
            return job_id, Step(kind, *chunk).id
    return None


def _steps_of(messages: Sequence[str]) -> list[tuple[str, str]]:
    parsed = [parse_message(message) for message in messages]
    return [step for step in parsed if step is not None]
