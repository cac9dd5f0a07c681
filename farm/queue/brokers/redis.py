"""Redis or Valkey as the broker: its queues, read as kombu writes them."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from itertools import product
from typing import Any, ClassVar

import redis
from kombu import Exchange
from kombu import Queue as MessageQueue

from farm.errors import FarmUnreachable
from farm.job import PRIORITIES, Priority
from farm.queue.brokers.broker import BrokerState, QueueState, StepOfJob
from farm.registry.redis import RedisBackend, tls_options
from farm.route import QUEUES, STEP_SPECS, Queue, Step
from farm.settings import Settings

MESSAGE_PRIORITIES: dict[Priority, int] = {
    priority: 3 * number for number, priority in enumerate(PRIORITIES)
}
"""Priorities of messages on Redis, where 0 is delivered first."""

SEPARATOR = "\x06\x16"
"""What kombu writes between the name of a queue and a priority above 0 (kombu.transport.redis)."""

UNACKED = "unacked"
"""The hash in which kombu keeps delivered messages until they are acknowledged."""

OLDEST = 5
"""Messages at the head of a queue that are read: the first may be no step's."""


def _queue_keys() -> dict[tuple[Queue, Priority], str]:
    keys = {}
    for queue, (name, priority) in product(QUEUES, MESSAGE_PRIORITIES.items()):
        keys[queue, name] = f"{queue}{SEPARATOR}{priority}" if priority else queue
    return keys


QUEUE_KEYS = _queue_keys()
"""The Redis list of each queue and priority, behind the farm's prefix, the next message last. The
highest priority has the name of the queue itself.
"""


class RedisBroker:
    priorities: ClassVar[Mapping[Priority, int]] = MESSAGE_PRIORITIES

    def __init__(self, settings: Settings) -> None:
        self._backend = RedisBackend(
            settings.broker_address, prefix=settings.key_prefix, ca=settings.broker_ca
        )

    @staticmethod
    def celery_options(settings: Settings) -> dict[str, Any]:
        return {
            "task_queues": [
                MessageQueue(name, Exchange(name), routing_key=name) for name in QUEUES
            ],
            "worker_disable_prefetch": True,
            "broker_transport_options": _transport_options(settings),
            "broker_use_ssl": tls_options(settings.broker_address, settings.broker_ca) or None,
        }

    @staticmethod
    def sender_options() -> dict[str, Any]:
        """None: a full Redis refuses a message at once."""
        return {}

    def version(self) -> str:
        return server_version(self.info())

    def info(self) -> dict[str, Any]:
        """All fields of INFO."""
        info: dict[str, Any] = self._backend.redis.info("everything")
        return info

    def state(self) -> BrokerState:
        pipeline = self._backend.redis.pipeline(transaction=False)
        for key in QUEUE_KEYS.values():
            pipeline.llen(self._backend.key(key))
            pipeline.lrange(self._backend.key(key), -OLDEST, -1)
        pipeline.hlen(self._backend.key(UNACKED))
        *answers, unacked = _execute(pipeline)
        info = self.info()
        return BrokerState(
            queues={
                name: QueueState(length, _steps_of(messages))
                for name, length, messages in zip(
                    QUEUE_KEYS, answers[0::2], answers[1::2], strict=True
                )
            },
            unacked=unacked,
            memory_bytes=info["used_memory"],
            aof_ok=aof_is_ok(info),
            evicted_keys=info["evicted_keys"],
        )

    def queued(self, queues: Collection[Queue] = QUEUES) -> int:
        pipeline = self._backend.redis.pipeline(transaction=False)
        for key in self._lists(queues):
            pipeline.llen(key)
        return sum(_execute(pipeline))

    def waiting_steps(self, queues: Collection[Queue] = QUEUES) -> set[StepOfJob]:
        pipeline = self._backend.redis.pipeline(transaction=False)
        for key in self._lists(queues):
            pipeline.lrange(key, 0, -1)
        return {step for messages in _execute(pipeline) for step in _steps_of(messages)}

    def declare_queues(self) -> None:
        """Nothing: kombu makes the lists with their first message."""

    def close(self) -> None:
        self._backend.redis.close()

    def _lists(self, queues: Collection[Queue]) -> list[str]:
        return [self._backend.key(key) for (queue, _), key in QUEUE_KEYS.items() if queue in queues]


def _transport_options(settings: Settings) -> dict[str, Any]:
    """The farm's keys and the registry's care for connections, for kombu's connection to Redis."""
    return {
        # Queues, unacknowledged messages, remote control and events of other farms stay apart.
        "global_keyprefix": settings.key_prefix,
        # Longer than a task may take, or its message is delivered again while it runs. A bridge
        # waits for its endpoint, too.
        "visibility_timeout": (1 + settings.runpod_concurrency) * settings.step_timeout_s
        + settings.bridge_queue_s,
        # Sweep for messages of dead workers every 10 s; by default it is every 100 s.
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        # Strictly by priority.
        "priority_steps": sorted(MESSAGE_PRIORITIES.values()),
        "queue_order_strategy": "priority",
        # Without a timeout a publish to a dead peer blocks for ever; the health check finds
        # connections that NAT has dropped.
        "socket_timeout": 30,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }


def _execute(pipeline: Any) -> list[Any]:
    try:
        answers: list[Any] = pipeline.execute()
    except redis.RedisError as error:
        raise FarmUnreachable(f"the broker does not answer; is it up? ({error})") from error
    return answers


def server_version(info: Mapping[str, Any]) -> str:
    """The name and the version of a server with these fields of INFO."""
    return f"{info.get('server_name', 'redis')} {info['redis_version']}"


def aof_is_ok(info: Mapping[str, Any]) -> bool:
    """Whether what is written outlives a crash, by the fields of INFO."""
    return bool(info["aof_enabled"] and info["aof_last_write_status"] == "ok")


def eviction_policy(client: redis.Redis) -> str | None:
    """What Redis evicts once its memory is full (maxmemory-policy); None if nothing."""
    info: dict[str, Any] = client.info("memory")
    policy: str = info["maxmemory_policy"]
    return None if policy == "noeviction" else policy


def parse_message(message: str) -> StepOfJob | None:
    """The job and the step of a message; None if it is not a step's."""
    with suppress(AttributeError, KeyError, TypeError, ValueError, RecursionError):
        envelope: dict[str, Any] = json.loads(message)
        kind = envelope["headers"]["task"].removeprefix("farm.")
        if kind in STEP_SPECS:
            arguments, *_ = json.loads(base64.b64decode(envelope["body"]))
            job_id, *chunk = arguments
            return job_id, Step(kind, *chunk).id
    return None


def _steps_of(messages: Sequence[str]) -> list[StepOfJob]:
    parsed = [parse_message(message) for message in messages]
    return [step for step in parsed if step is not None]
