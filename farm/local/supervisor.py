"""Broker, workers, the reaper's beat and, if wanted, Flower under one roof, in one foreground process."""

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

from farm.errors import FarmUnreachable, InvalidInput
from farm.local.broker import Broker
from farm.local.flower import check_flower, flower_command, flower_environ
from farm.local.process import spawn, stop, tail
from farm.local.worker import QueueName, worker_command, worker_environ
from farm.net.address import Address
from farm.queue.app import make_app
from farm.settings import PREFIX, Settings

QUEUES: tuple[QueueName, ...] = get_args(QueueName)
FLOWER = "flower"
START_S = 120.0
LAST_S = 10.0
"""How much longer than their grace workers may take to be gone: what hangs is broken off, and Celery says goodbye."""


class Supervisor:
    """The children of a farm that is up, by name: one for each queue, and Flower; made by `open_house`."""

    def __init__(
        self, settings: Settings, *, application: str = "tasks", flower: Address | None = None
    ) -> None:
        self.settings = settings
        self.flower = flower
        self.app: Celery = make_app(settings)
        self.beat = EmbeddedService(self.app, thread=True, scheduler_cls="celery.beat:Scheduler")
        self.commands: dict[str, list[str]] = {
            name: worker_command(name, settings, application=application) for name in QUEUES
        }
        if flower:
            self.commands[FLOWER] = flower_command(flower)
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        for name in self.commands:
            self._start(name)
        self.beat.start()

    def wait_until_ready(self) -> None:
        """Returns once every child answers; FarmUnreachable with its last lines if one died instead."""
        deadline = time.monotonic() + START_S
        while not self._answers():
            for name, child in self.children.items():
                if child.poll() is not None or time.monotonic() > deadline:
                    log = self.log(name)
                    raise FarmUnreachable(
                        f"{_called(name)} did not start; the last lines of {log}:\n{tail(log)}"
                    )

    def supervise(self, tell: Callable[[str], None]) -> None:
        """Starts children again that have died, for ever."""
        while True:
            self.replace_dead(tell)
            time.sleep(1)

    def replace_dead(self, tell: Callable[[str], None]) -> None:
        """Starts each child again that has died."""
        for name, child in list(self.children.items()):
            if child.poll() is not None:
                tell(f"{_called(name)} ended with status {child.returncode}; starting it again")
                stop([child], grace_s=0)
                self._start(name)

    def stop(self) -> None:
        """Lets the workers hand back what they have in hand, and ends those that are not gone after their grace."""
        if self.beat.is_alive():
            self.beat.stop()
        stop(list(self.children.values()), grace_s=self.settings.grace_s + LAST_S)

    def log(self, name: str) -> Path:
        return self.settings.folder / "logs" / f"{name}.log"

    def _answers(self) -> bool:
        if self.flower and not self.flower.is_listening:
            return False
        # One of the pool's may still lead to a broker that was at this address before.
        with self.app.connection_for_write() as connection:
            return len(self.app.control.ping(timeout=0.5, connection=connection)) >= len(QUEUES)

    def _start(self, name: str) -> None:
        self.children[name] = spawn(
            self.commands[name], log=self.log(name), environ=_environ(name, self.settings)
        )


def _called(name: str) -> str:
    return "Flower" if name == FLOWER else f"the {name} worker"


@contextmanager
def open_supervisor(
    settings: Settings, *, application: str = "tasks", flower: Address | None = None
) -> Iterator[Supervisor]:
    """A farm that is up while the block runs, its workers those of the Celery application in a module.

    FarmUnreachable if one is up in this home already; InvalidInput if Flower cannot be at that door.
    """
    if flower:
        check_flower(flower, settings)
    with _alone(settings), ExitStack() as on_the_way_out:
        url = settings.broker_url
        if url is None:
            broker = Broker(settings)
            on_the_way_out.callback(broker.stop)
            url = broker.url
        supervisor = Supervisor(
            settings.model_copy(update={"broker_url": url}), application=application, flower=flower
        )
        on_the_way_out.callback(supervisor.stop)
        supervisor.start()
        supervisor.wait_until_ready()
        yield supervisor


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Holds the lock of this home; the system lets go of it however the process ends."""
    path = settings.folder / "run" / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = path.open("a+")
    except OSError as error:
        raise InvalidInput(
            f"FARM_HOME: got {str(settings.home)!r}; allowed: a folder that can be written ({error.strerror})"
        ) from error
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FarmUnreachable(
                f"a farm is up in {settings.folder} already; stop it, or set FARM_HOME to another"
            ) from None
        yield


def _environ(name: str, settings: Settings) -> dict[str, str]:
    """What a child needs to see the same settings, whatever its working folder, and a worker's port for its numbers."""
    ours = {PREFIX + "HOME": str(settings.folder), PREFIX + "BROKER_URL": settings.broker_address}
    if settings.metrics_listen_address and name in QUEUES:
        host, port = settings.metrics_listen_address
        ours[PREFIX + "METRICS_ADDRESS"] = str(Address(host, port + 1 + QUEUES.index(name)))
    return worker_environ(flower_environ(settings, {**os.environ, **ours}))
