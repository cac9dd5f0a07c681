"""What stands in the broker's queues, as kombu writes it there."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from itertools import product

from farm.engine.route import Step
from farm.metrics import QUEUES, STEP_KINDS
from farm.queue.app import PRIORITIES
from farm.registry import Registry
from farm.registry.redis import RedisLedger

SEPARATOR = "\x06\x16"
"""What kombu writes between the name of a queue and a priority above 0 (kombu.transport.redis)."""

KEYS = {
    (queue, name): f"{queue}{SEPARATOR}{priority}" if priority else queue
    for queue, (name, priority) in product(QUEUES, PRIORITIES.items())
}
"""Where Redis has a queue's messages of one priority, the next one out last: the highest has the queue's own name."""


def lost(registry: Registry, *, after_s: float) -> set[tuple[str, str]]:
    """The job and the product of messages that were rung for so long ago, stand in no queue and have led to no lease.

    Who was to send it has died, or who was handed it before it began; one that still loads the model looks the same.
    The queues are read through only if fewer messages stand in them than are waited for.
    """
    waiting, ledger = set(registry.waiting(for_s=after_s)), registry.ledger
    if not waiting or not isinstance(ledger, RedisLedger):
        return set()
    asked = ledger.redis.pipeline(transaction=False)
    for key in KEYS.values():
        asked.llen(key)
    if sum(asked.execute()) >= len(waiting):
        return set()
    for key in KEYS.values():
        asked.lrange(key, 0, -1)
    return waiting.difference(found for messages in asked.execute() for each in messages if (found := ticket(each)))


def ticket(message: str) -> tuple[str, str] | None:
    """The job and the product that a message is for; None if it is no step's, or not one of ours at all."""
    with suppress(KeyError, TypeError, ValueError):
        envelope = json.loads(message)
        kind = envelope["headers"]["task"].removeprefix("farm.")
        if kind in STEP_KINDS:
            (job_id, *chunk), *_ = json.loads(base64.b64decode(envelope["body"]))
            return job_id, Step(kind, *chunk).id
    return None
