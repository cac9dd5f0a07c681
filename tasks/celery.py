"""The Celery application of the workers, and what each of their processes does first.

`celery -A tasks` finds the application here. This is the one module that reads the environment
when it is imported, because Celery looks for a finished application.
"""

import logging
import os
import socket
from contextlib import suppress

from celery.signals import worker_init, worker_process_init
from kombu import pools

from farm.errors import FarmUnreachable
from farm.logs import log
from farm.queue.app import make_app
from farm.queue.inspect import broker_of, eviction_policy
from farm.registry import farm_registry
from farm.settings import Settings

settings = Settings.load(os.environ)
app = make_app(settings)


@worker_init.connect
def warn_of_eviction(**_: object) -> None:
    """Logs that the broker may evict jobs; `farm doctor` says the same."""
    broker = broker_of(farm_registry(settings))
    with suppress(FarmUnreachable):  # Celery waits for the broker
        if broker and (policy := eviction_policy(broker.redis)):
            log("broker_may_evict", level=logging.WARNING, maxmemory_policy=policy)


@worker_process_init.connect
def _close_inherited_sockets(**_: object) -> None:
    """Closes the sockets that a late fork inherited.

    Otherwise Redis keeps delivering to a dead worker while its child lives.
    """
    with open(os.devnull, "rb") as null:
        for name in os.listdir("/dev/fd"):
            with suppress(OSError), socket.socket(fileno=os.dup(int(name))) as inherited:
                if inherited.family in (socket.AF_INET, socket.AF_INET6):
                    # Closed, its number could become that of another file.
                    os.dup2(null.fileno(), int(name))


@worker_process_init.connect
def _forget_inherited_connections(**_: object) -> None:
    """Drops pools whose locks a thread of the worker may have held when this child was forked."""
    pools.connections.clear()
    pools.producers.clear()
