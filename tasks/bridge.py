"""The Celery application of a bridge, whose chunks are made on a serverless endpoint.

`celery -A farm.tasks.bridge` finds the application here. Importing it has an effect, because Celery
looks for a finished application: this process runs no step but `generate`.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import Any

from celery.signals import worker_init, worker_ready, worker_shutting_down
from celery.worker.consumer import Consumer

from farm.engine.context import open_context
from farm.engine.step_context import StepFunction
from farm.errors import FarmError, InvalidInput
from farm.logs import log
from farm.route import StepKind
from farm.runpod.bridge import open_bridge
from farm.runpod.overflow import Overflow, cancel_abandoned, recall
from farm.tasks import base, heartbeat
from farm.tasks.celery import app, settings
from farm.tasks.drain import draining

__all__ = ["app"]

DECIDE_EVERY_S = 3.0
"""How often it is decided whether chunks overflow."""

RECONCILE_EVERY_S = 60.0

heartbeat.slots["gpu"] = settings.bridge_slots


@worker_init.connect
def _open(**_: Any) -> None:
    """Opens the bridge; exits if something is missing."""
    try:
        bridge = open_bridge(settings)
    except InvalidInput as error:
        log("worker_refused", level=logging.ERROR, reason=error.message)
        raise SystemExit(1) from None
    overflow = Overflow(bridge, open_context(settings))
    generate = replace(bridge, refused=overflow.pause).generate

    def step_function(kind: StepKind) -> StepFunction:
        if kind != "generate":
            raise LookupError(f"a bridge got the step {kind}")
        return generate

    base.hooks = replace(base.hooks, step_function=step_function, adopts=True)

    def start(sender: Consumer, **_: Any) -> None:
        _decide(sender, overflow)
        sender.timer.call_repeatedly(DECIDE_EVERY_S, _decide, (sender, overflow))
        threading.Thread(
            target=_reconcile_forever, args=(overflow,), name="reconcile", daemon=True
        ).start()

    worker_ready.connect(start, weak=False)


@worker_shutting_down.connect
def _leave(**_: Any) -> None:
    """Stops counting as a bridge at once, so that no chunk waits for this one to adopt it.

    In a thread, because this is a signal's handler.
    """
    for queue in ("bridge", "gpu"):
        threading.Thread(target=heartbeat.withdraw, args=(queue,)).start()


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


def _reconcile_forever(overflow: Overflow) -> None:
    """Ends abandoned remote jobs and recalls the others, at first those of a dead bridge."""
    while not draining():
        try:
            cancel_abandoned(overflow.bridge, overflow.ctx)
            recall(app, overflow.ctx)
        except Exception as error:  # the next round may succeed
            reason = error.message if isinstance(error, FarmError) else type(error).__name__
            log("reconcile_failed", level=logging.WARNING, reason=reason)
        time.sleep(RECONCILE_EVERY_S)
