"""What a submission leaves: its request, its uploads, its message."""

from __future__ import annotations

from typing import Any

import redis

from farm.client import Farm
from farm.job import JobRequest
from farm.store import keys
from tests.support.jobs import FIELDS


def submitted(farm: Farm, **fields: Any) -> JobRequest:
    """The request as the farm stored it."""
    return farm.context.registry.jobs.request(farm.submit({**FIELDS, **fields}).id)


def uploads(farm: Farm) -> list[str]:
    return list(farm.context.store.keys(keys.UPLOADS))


def queued(broker: str, queue: str = "downloads") -> int:
    """Messages in the queue, of all priorities."""
    with redis.Redis.from_url(broker) as client:
        return sum(
            int(client.llen(name)) for name in client.scan_iter(f"farm:{queue}*", _type="list")
        )
