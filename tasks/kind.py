"""Which kind of worker this process is."""

from __future__ import annotations

from functools import cache
from typing import Any

from celery.signals import worker_init

from farm.route import CONSUMED, WorkerKind
from farm.tasks.celery import app


@cache
def worker_kind() -> WorkerKind:
    """By the queues that it consumes from the start: a bridge begins later to consume more."""
    consumed = set(app.amqp.queues.consume_from)
    return next(kind for kind, queues in CONSUMED.items() if consumed & set(queues))


@worker_init.connect
def _remember(**_: Any) -> None:
    worker_kind()
