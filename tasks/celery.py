"""The farm's steps as Celery tasks. `celery -A tasks` finds its application here.

This is the one module that reads the environment when it is imported, because Celery looks for a finished application.
"""

import os
import socket
from contextlib import suppress

from celery.signals import worker_process_init

from farm.queue.app import DESKS, make_app
from farm.settings import Settings

settings = Settings.load(os.environ)
app = make_app(settings)


@worker_process_init.connect
def _let_go(**_: object) -> None:
    """Has a child that is forked late hold no connection and no port of its worker: Redis would go on handing messages
    to a worker that has died, for as long as its child lives.
    """
    with open(os.devnull, "rb") as nothing:
        for name in os.listdir("/dev/fd"):
            with suppress(OSError), socket.socket(fileno=os.dup(int(name))) as held:
                if held.family in (socket.AF_INET, socket.AF_INET6):
                    os.dup2(nothing.fileno(), int(name))  # closed, its number could be another file's one day


@worker_process_init.connect
def _warm_up(**_: object) -> None:
    """Loads the model into a gpu worker's child before its first ticket; a failure shows in the job that needs it."""
    if DESKS["generate"].queue in app.amqp.queues.consume_from:
        from farm.logs import log
        from farm.steps.generate import warm_pipeline

        try:
            warm_pipeline(settings)
        except Exception as error:
            log("pipeline_not_warm", reason=f"{type(error).__name__}: {error}")
