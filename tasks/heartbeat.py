"""A worker says that it is there: which queues have workers is known from that, and how many GPUs there are."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

from celery.signals import heartbeat_sent, worker_ready, worker_shutdown

from farm.errors import FarmUnreachable
from tasks.base import context
from tasks.celery import app

EVERY_S = 10.0
"""Celery's heart beats every 2 s; a worker counts as there for three times as long as this."""

SILENT_S = 86_400.0
"""After which a worker that was killed is no longer listed."""

_said_at = [0.0]


@worker_ready.connect
def _sweep(**_: Any) -> None:
    with suppress(FarmUnreachable):
        context().registry.forget_workers(silent_s=SILENT_S)


@heartbeat_sent.connect
def _say(**_: Any) -> None:
    """Said by the worker, not by its child, so it is said while a chunk is made."""
    now = time.monotonic()
    if now - _said_at[0] >= EVERY_S:
        _said_at[0] = now
        with suppress(FarmUnreachable):  # then Celery's own connection is gone too, and it waits for the broker
            for name in _names():
                context().registry.present(name)


@worker_shutdown.connect
def _take_leave(**_: Any) -> None:
    with suppress(FarmUnreachable):
        for name in _names():
            context().registry.absent(name)


def _names() -> list[str]:
    """One for each queue that this worker listens to."""
    return [f"{queue} {os.uname().nodename} {os.getpid()}" for queue in app.amqp.queues.consume_from]
