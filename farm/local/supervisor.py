"""Broker, workers and, optionally, Flower under one foreground process."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import inf
from pathlib import Path

from farm.engine.context import open_context
from farm.engine.identity import check_identity
from farm.errors import FarmUnreachable, InvalidInput
from farm.local.broker import Broker
from farm.local.flower import check_flower, flower_auth, flower_command, flower_environ
from farm.local.process import spawn, stop, tail
from farm.local.worker import APPLICATION, worker_command, worker_environ
from farm.net.address import ListenAddress
from farm.registry import farm_registry
from farm.registry.workers import worker_name
from farm.route import WorkerKind
from farm.settings import PREFIX, Settings

WORKERS: tuple[WorkerKind, ...] = ("cpu", "gpu")
FLOWER = "flower"
POLL_INTERVAL_S = 0.1
RESTART_INTERVAL_S = 1.0
KILL_AFTER_S = 10.0
"""Seconds after the workers' own grace until they are killed: a hanging step is interrupted by
then, and Celery shuts down.
"""


class Supervisor:
    """The child processes of a running farm by name: a cpu and a gpu worker, and Flower.

    Created by `open_supervisor`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        application: str = APPLICATION,
        flower: ListenAddress | None = None,
    ) -> None:
        self.settings = settings
        self.flower = flower
        self.commands: dict[str, list[str]] = {
            queue: worker_command(queue, settings, application=application) for queue in WORKERS
        }
        if flower:
            self.commands[FLOWER] = flower_command(flower)
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        for name in self.commands:
            self._start(name)

    def wait_until_ready(self) -> None:
        """Returns once every child responds.

        Raises FarmUnreachable with the last lines of a child that died or did not respond in time.
        """
        deadline = time.monotonic() + (self.settings.start_timeout_s or inf)
        while missing := self._missing():
            is_late = time.monotonic() > deadline
            for name, child in self.children.items():
                if child.poll() is not None or (is_late and name in missing):
                    log = self.log(name)
                    raise FarmUnreachable(
                        f"{_title(name)} did not start; the last lines of {log}:\n{tail(log)}"
                    )
            time.sleep(POLL_INTERVAL_S)

    def supervise(self, report: Callable[[str], None]) -> None:
        """Restarts dead children, forever."""
        while True:
            self.replace_dead(report)
            time.sleep(RESTART_INTERVAL_S)

    def replace_dead(self, report: Callable[[str], None]) -> None:
        """Restarts each child that has died, and reports it."""
        for name, child in list(self.children.items()):
            if child.poll() is not None:
                report(f"{_title(name)} ended with status {child.returncode}; starting it again")
                stop([child], grace_s=0)  # the processes that it left behind
                self._start(name)

    def stop(self) -> None:
        """Drains the workers, and kills those that are still there after their grace."""
        stop(list(self.children.values()), grace_s=self.settings.grace_s + KILL_AFTER_S)

    def log(self, name: str) -> Path:
        return self.settings.folder / "logs" / f"{name}.log"

    def _missing(self) -> set[str]:
        """The children that do not respond."""
        alive = set(farm_registry(self.settings).workers.alive())
        missing: set[str] = {name for name in WORKERS if not self._workers_of(name) <= alive}
        if self.flower and not self.flower.is_listening:
            missing.add(FLOWER)
        return missing

    def _workers_of(self, name: WorkerKind) -> set[str]:
        """The workers in a child, as the registry names them."""
        host, pid = os.uname().nodename, self.children[name].pid
        names = {worker_name(name, host, pid)}
        if name == "cpu" and self.settings.download_concurrency:
            names.add(worker_name("downloads", host, pid))
        return names

    def _start(self, name: str) -> None:
        self.children[name] = self._spawn(name, _child_environ(name, self.settings))

    def _spawn(self, name: str, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        return spawn(self.commands[name], log=self.log(name), environ=environ)


def _title(name: str) -> str:
    """A child in messages."""
    return "Flower" if name == FLOWER else f"the {name} worker"


@contextmanager
def open_supervisor(
    settings: Settings, *, application: str = APPLICATION, flower: ListenAddress | None = None
) -> Iterator[Supervisor]:
    """A farm that runs while the block runs; `application` is the module of its Celery tasks.

    Without `settings.broker_url` it includes a broker. Raises InvalidInput if a farm runs in this
    home already, or Flower cannot listen at its address.
    """
    if flower:
        check_flower(flower, settings)
    with lock_home(settings), ExitStack() as cleanup:
        url = settings.broker_url
        if url is None:
            broker = Broker(settings)
            cleanup.callback(broker.stop)
            url = broker.url
        changes: dict[str, object] = {"broker_url": url}
        if flower:
            changes |= {"flower_auth": flower_auth(settings), "remote_control": True}
        settings = settings.model_copy(update=changes)
        check_identity(open_context(settings))
        supervisor = Supervisor(settings, application=application, flower=flower)
        cleanup.callback(supervisor.stop)
        supervisor.start()
        supervisor.wait_until_ready()
        yield supervisor


@contextmanager
def lock_home(settings: Settings) -> Iterator[None]:
    """Locks the home of a farm; the kernel releases the lock however the process ends."""
    path = settings.lock_file
    try:
        settings.make_folder()
        path.parent.mkdir(exist_ok=True)
        lock = path.open("a+")
    except OSError as error:
        raise InvalidInput(
            f"FARM_HOME: got {str(settings.home)!r}; allowed: a writable folder of its own "
            f"({error.strerror})"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidInput(
                f"FARM_HOME: a farm is up in {settings.folder} already; stop it, or set another"
            ) from None
        yield


def _child_environ(name: str, settings: Settings) -> dict[str, str]:
    """The environment of a child: the same settings in any working folder.

    The metrics of the workers are served at the ports after the supervisor's.
    """
    ours = {
        PREFIX + "NAME": settings.name,
        PREFIX + "HOME": str(settings.folder),
        PREFIX + "BROKER_URL": settings.broker_address,
        PREFIX + "REGISTRY_URL": settings.registry_address,
        PREFIX + "PRESETS": ",".join(settings.presets),
        PREFIX + "REMOTE_CONTROL": str(settings.remote_control),
    }
    if settings.metrics_listen_address and name in WORKERS:
        host, port = settings.metrics_listen_address
        worker_port = port + 1 + WORKERS.index(name)
        ours[PREFIX + "METRICS_ADDRESS"] = str(ListenAddress(host, worker_port))
    environ = {**os.environ, **ours}
    return flower_environ(settings, environ) if name == FLOWER else worker_environ(environ)
