"""Broker, workers and the reaper's beat under one roof, in one foreground process."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import get_args

from celery import Celery
from celery.beat import EmbeddedService

from farm.app import make_app
from farm.embedded.broker import Broker
from farm.embedded.child import spawn, stop, tail
from farm.embedded.worker import QueueName, worker_command, worker_environ
from farm.errors import FarmUnreachable
from farm.settings import PREFIX, Settings

QUEUES: tuple[QueueName, ...] = get_args(QueueName)
START_S = 120.0
LAST_S = 10.0
"""How much longer than their grace workers may take to be gone: what hangs is broken off, and Celery says goodbye."""


class House:
    """The children of a farm that is up; made by `open_house`."""

    def __init__(self, settings: Settings, *, application: str = "tasks") -> None:
        self.settings = settings
        self.application = application
        self.app: Celery = make_app(settings)
        self.beat = EmbeddedService(self.app, thread=True, scheduler_cls="celery.beat:Scheduler")
        self.children: dict[QueueName, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        for queue in QUEUES:
            self._start(queue)
        self.beat.start()

    def wait_until_ready(self) -> None:
        """Returns once every worker answers; FarmUnreachable with its last lines if one died instead."""
        deadline = time.monotonic() + START_S
        while len(self.app.control.ping(timeout=0.5)) < len(QUEUES):
            for queue, child in self.children.items():
                if child.poll() is not None or time.monotonic() > deadline:
                    log = self.log(queue)
                    raise FarmUnreachable(f"the {queue} worker did not start; the last lines of {log}:\n{tail(log)}")

    def look_after(self, tell: Callable[[str], None]) -> None:
        """Starts workers again that have died, for ever."""
        while True:
            self.replace_dead(tell)
            time.sleep(1)

    def replace_dead(self, tell: Callable[[str], None]) -> None:
        """Starts each worker again that has died."""
        for queue, child in list(self.children.items()):
            if child.poll() is not None:
                tell(f"the {queue} worker ended with status {child.returncode}; starting it again")
                stop([child], grace_s=0)
                self._start(queue)

    def stop(self) -> None:
        """Lets the workers hand back what they have in hand, and ends those that are not gone after their grace."""
        if self.beat.is_alive():
            self.beat.stop()
        stop(list(self.children.values()), grace_s=self.settings.grace_s + LAST_S)

    def log(self, queue: QueueName) -> Path:
        return self.settings.folder / "logs" / f"{queue}.log"

    def _start(self, queue: QueueName) -> None:
        command = worker_command(queue, self.settings, application=self.application)
        self.children[queue] = spawn(command, log=self.log(queue), environ=_environ(queue, self.settings))


@contextmanager
def open_house(settings: Settings, *, application: str = "tasks") -> Iterator[House]:
    """A farm that is up while the block runs, its workers those of the Celery application in a module.

    FarmUnreachable if one is up in this home already.
    """
    with _alone(settings), ExitStack() as on_the_way_out:
        url = settings.broker_url
        if url is None:
            broker = Broker(settings)
            on_the_way_out.callback(broker.stop)
            url = broker.url
        house = House(settings.model_copy(update={"broker_url": url}), application=application)
        on_the_way_out.callback(house.stop)
        house.start()
        house.wait_until_ready()
        yield house


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Holds the lock of this home; the system lets go of it however the process ends."""
    path = settings.folder / "run" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FarmUnreachable(
                f"a farm is up in {settings.folder} already; stop it, or set FARM_HOME to another"
            ) from None
        yield


def _environ(queue: QueueName, settings: Settings) -> dict[str, str]:
    """What a worker needs to see the same settings, whatever its working folder, and a port for its numbers."""
    ours = {PREFIX + "HOME": str(settings.folder), PREFIX + "BROKER_URL": settings.broker_address}
    if settings.metrics_at:
        host, port = settings.metrics_at
        ours[PREFIX + "METRICS_ADDRESS"] = f"{f'[{host}]' if ':' in host else host}:{port + 1 + QUEUES.index(queue)}"
    return worker_environ({**os.environ, **ours})
