"""The Celery application of a bridge, whose chunks are made on a serverless endpoint.

`celery -A tasks.bridge` finds the application here. Importing it has an effect, because Celery
looks for a finished application: this process runs no step but `generate`.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import Any

from celery.signals import worker_init, worker_ready
from celery.worker.consumer import Consumer

import tasks.base
from farm.engine.context import Context, open_context
from farm.engine.step_context import StepFunction
from farm.errors import FarmError, InvalidInput
from farm.logs import log
from farm.route import StepKind
from farm.runpod.bridge import Bridge, open_bridge
from farm.runpod.overflow import Overflow, cancel_abandoned
from tasks import heartbeat
from tasks.celery import app, settings
from tasks.drain import draining

__all__ = ["app"]

DECIDE_EVERY_S = 3.0
"""How often it is decided whether chunks overflow."""

RECONCILE_EVERY_S = 60.0

heartbeat.slots["gpu"] = range(settings.bridge_slots)

_bridge: list[Bridge] = []
"""The bridge, once this worker has started."""


@worker_init.connect
def _open(**_: Any) -> None:
    """Exits if something is missing."""
    try:
        bridge = open_bridge(settings)
    except InvalidInput as error:
        log("worker_refused", level=logging.ERROR, reason=error.message)
        raise SystemExit(1) from None
    ctx = open_context(settings)
    overflow = Overflow(bridge, ctx)
    _bridge[:] = [replace(bridge, refused=overflow.pause)]
    tasks.base.hooks = replace(tasks.base.hooks, step_function=_step_function, adopts=True)
    worker_ready.connect(_starter(overflow), weak=False)


def _step_function(kind: StepKind) -> StepFunction:
    if kind != "generate":
        raise LookupError(f"a bridge got the step {kind}")
    return _bridge[0].generate


def _starter(overflow: Overflow) -> Any:
    """What a worker does once it is ready: the first time, and after it has lost its broker."""
    started = threading.Event()

    def start(sender: Consumer, **_: Any) -> None:
        if not started.is_set():
            started.set()
            sender.timer.call_repeatedly(DECIDE_EVERY_S, _decide, (sender, overflow))
            name = "reconcile"
            threading.Thread(
                target=_reconcile_forever, args=(overflow.ctx,), name=name, daemon=True
            ).start()
        _decide(sender, overflow)

    return start


def _decide(consumer: Consumer, overflow: Overflow) -> None:
    """Starts or stops to take new chunks. In the worker's own thread: only that may do so."""
    is_open = consumer.task_consumer.consuming_from("gpu")
    try:
        wanted = overflow.is_open() and not draining()
    except FarmError as error:
        log("overflow_undecided", level=logging.WARNING, reason=error.message)
        return
    if wanted and not is_open:
        consumer.add_task_queue("gpu")
        heartbeat.send_now()
    elif is_open and not wanted:
        consumer.cancel_task_queue("gpu")
        heartbeat.withdraw("gpu")
    if wanted != is_open:
        log("overflow_opened" if wanted else "overflow_closed")


def _reconcile_forever(ctx: Context) -> None:
    """Ends remote jobs that nobody needs, at first those that a dead bridge has left."""
    pause = threading.Event()
    while not draining():
        try:
            cancel_abandoned(_bridge[0], ctx)
        except FarmError as error:
            log("reconcile_failed", level=logging.WARNING, reason=error.message)
        pause.wait(RECONCILE_EVERY_S)
