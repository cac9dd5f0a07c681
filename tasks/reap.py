"""The thread of every cpu worker in which its reaper runs.

It belongs to the worker, not to its children, so no step can hold it up.
"""

import logging
import threading
from typing import Any

from celery.signals import worker_ready

from farm.engine.context import open_context
from farm.errors import FarmError
from farm.logs import log
from farm.queue.brokers import open_broker
from farm.queue.reaper import Reaper
from farm.tasks.celery import app, settings
from farm.tasks.drain import draining


@worker_ready.connect
def _start(**_: Any) -> None:
    if "cpu" in app.amqp.queues.consume_from:
        threading.Thread(target=_reap_forever, name="reaper", daemon=True).start()


def _reap_forever() -> None:
    # Its own context, which no child uses after a fork.
    reaper = Reaper(app, open_context(settings), open_broker(settings))
    pause = threading.Event()
    while not draining():
        try:
            reaper.reap()
        except Exception as error:  # the next round may succeed
            reason = error.message if isinstance(error, FarmError) else type(error).__name__
            log("reap_failed", level=logging.WARNING, reason=reason)
        pause.wait(settings.reap_every_s)
