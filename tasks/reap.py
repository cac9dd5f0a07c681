"""The reaper, a thread of every cpu worker: it dispatches the steps of orphaned jobs again.

It belongs to the worker, not to its children, so no step can hold it up. Several reapers do no
harm, because the right to dispatch is a compare-and-set.
"""

import logging
import threading
from functools import cache
from typing import Any

from celery.signals import worker_ready

from farm.engine.advance import claim_due_step
from farm.engine.context import Context, open_context
from farm.engine.deadlines import end_overdue
from farm.errors import FarmError
from farm.logs import job_context, log
from farm.queue.brokers import Broker, open_broker
from farm.queue.dispatch import ending_unreadable, redispatch
from farm.queue.waiting import find_lost_messages
from tasks.celery import app, settings
from tasks.drain import draining


@cache
def context() -> Context:
    """The reaper's own context, which no child uses after a fork."""
    return open_context(settings)


@cache
def broker() -> Broker:
    return open_broker(settings)


@worker_ready.connect
def _start(**_: Any) -> None:
    if "cpu" in app.amqp.queues.consume_from:
        threading.Thread(target=_reap_forever, name="reaper", daemon=True).start()


def _reap_forever() -> None:
    pause = threading.Event()
    while not draining():
        try:
            reap()
        except Exception as error:  # the next round may succeed
            reason = error.message if isinstance(error, FarmError) else type(error).__name__
            log("reap_failed", level=logging.WARNING, reason=reason)
        pause.wait(settings.reap_every_s)


def reap() -> int:
    """Ends overdue jobs, dispatches every orphaned one again, and returns how many there were."""
    registry = context().registry
    end_overdue(context())
    for job_id, step_id in find_lost_messages(registry, broker(), after_s=settings.lease_s):
        with job_context(job_id), ending_unreadable(context(), job_id):
            registry.steps.mark_lost(job_id, step_id)
    orphaned = registry.jobs.orphaned()
    return sum(redispatch(app, context(), job_id, claim_due_step) for job_id in orphaned)
