"""The heartbeat of a worker in the registry, from which the workers of a queue are counted."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import cache
from math import inf
from typing import Any

from celery.signals import heartbeat_sent, worker_ready, worker_shutdown

from farm.client.voices import kokoro_names
from farm.errors import FarmUnreachable
from farm.registry import Registry, farm_registry
from farm.registry.workers import worker_name
from farm.route import Queue
from farm.tasks.celery import app, settings
from farm.tasks.metrics import PIPE
from farm.tasks.warm_up import has_failed

INTERVAL_S = 10.0
"""Celery's own comes every 2 s; a worker counts as alive for three times this interval."""

SILENT_S = 86_400.0
"""After this long without a heartbeat a killed worker is not listed any more."""

SPEAKING: set[Queue] = {"cpu", "downloads"}
"""The queues of steps that synthesise speech."""

_last_sent_at = [inf]
"""Infinite until the worker is ready, so that none is sent before."""


slots: dict[Queue, int] = {}
"""How many workers this one counts as, at queues where it is not one."""


@worker_ready.connect
def _send_first(**_: Any) -> None:
    send_now()
    with suppress(FarmUnreachable):
        worker_registry().workers.remove_silent(silent_s=SILENT_S)


def send_now() -> None:
    """Sends a heartbeat at once, because the queues of this worker have changed."""
    _last_sent_at[0] = -inf
    _send()


def withdraw(queue: Queue) -> None:
    """Removes the name that this worker has at a queue which it does not consume any more."""
    with suppress(FarmUnreachable):
        worker_registry().workers.remove(_name_at(queue))


@heartbeat_sent.connect
def _send(**_: Any) -> None:
    """Sent by the worker, not by its child, so it goes on while a chunk is generated."""
    now = time.monotonic()
    if now - _last_sent_at[0] < INTERVAL_S:
        return
    _last_sent_at[0] = now
    # If the broker is down, Celery's own connection is lost too, and it waits for the broker.
    with suppress(FarmUnreachable):
        for name in _names():
            worker_registry().workers.heartbeat(name)
        if "gpu" in app.amqp.queues.consume_from:
            worker_registry().workers.announce(settings.presets)
        if has_failed():
            worker_registry().workers.report_cold(_name_at("gpu"))
        if SPEAKING & set(app.amqp.queues.consume_from):
            worker_registry().workers.announce_kokoro(kokoro_names(settings))


@worker_shutdown.connect
def _remove(**_: Any) -> None:
    with suppress(FarmUnreachable):
        for name in _names():
            worker_registry().workers.remove(name)


@cache
def worker_registry() -> Registry:
    """A registry that does not wait for the broker: the worker must reconnect to it meanwhile."""
    return farm_registry(settings)


def _names() -> list[str]:
    """One name for each queue that this worker consumes."""
    return [_name_at(queue) for queue in app.amqp.queues.consume_from]


def _name_at(queue: Queue) -> str:
    """The name of this worker at a queue.

    A process that downloads for a cpu worker has the name of that.
    """
    host = os.uname().nodename
    pid = os.getppid() if PIPE in os.environ else os.getpid()
    return worker_name(queue, host, pid, slots.get(queue))
