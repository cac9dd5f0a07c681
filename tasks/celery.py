"""The Celery application of the workers, and what each of their processes does first.

`celery -A farm.tasks` finds the application here. This is the one module that reads the environment
when it is imported, because Celery looks for a finished application.
"""

import gc
import logging
import os
import socket
from contextlib import suppress

from celery.signals import worker_init, worker_process_init, worker_ready
from kombu import pools

from farm.errors import FarmUnreachable
from farm.logs import log
from farm.queue.app import make_app
from farm.queue.brokers import broker_class
from farm.queue.brokers.redis import eviction_policy
from farm.registry.redis import RedisBackend
from farm.settings import REDIS, Settings

settings = Settings.load(os.environ)
app = make_app(settings)


@worker_init.connect
def _send_steps(**_: object) -> None:
    app.conf.update(broker_class(settings).sender_options())


@worker_init.connect
def warn_of_eviction(**_: object) -> None:
    """Logs that the broker or the registry may evict jobs; `farm doctor` says the same."""
    events = {
        settings.registry_address: "registry_may_evict",
        settings.broker_address: "broker_may_evict",
    }
    for url, event in events.items():
        if not url.startswith(REDIS):
            continue
        backend = RedisBackend(url, prefix=settings.key_prefix, ca=settings.broker_ca)
        with backend.redis, suppress(FarmUnreachable):  # Celery waits for it
            if policy := eviction_policy(backend.redis):
                log(event, level=logging.WARNING, maxmemory_policy=policy)


@worker_process_init.connect
@worker_ready.connect
def _freeze(**_: object) -> None:
    """Takes what is imported out of the rounds of the garbage collector: it is never garbage."""
    gc.freeze()


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


@worker_process_init.connect
def _wait_for_the_end_of_alarms(**_: object) -> None:
    """Lets a child wait until RabbitMQ takes messages again: its step is done, and nothing else of
    the worker waits for it.
    """
    app.conf.broker_transport_options.pop("on_blocked", None)
