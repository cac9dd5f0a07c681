"""A farm whose broker and workers can be killed, paused, restarted and given a fault."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from typing import Any, TypeVar

import redis

from farm import Farm
from farm.local.broker import Broker
from farm.local.process import spawn, stop
from farm.local.supervisor import Supervisor
from farm.local.worker import worker_command
from farm.queue.app import make_app
from farm.route import WorkerKind
from farm.settings import Settings
from tests.support.fork_server import ForkedWorker, fork_worker
from tests.support.processes import children_of
from tests.support.rabbitmq import RabbitMQ
from tests.support.receiver import Receiver
from tests.support.small_farm import KINDS
from tests.support.swift import Swift

Value = TypeVar("Value")

TIMEOUT_S = 600
"""A job that takes longer counts as lost."""

APPLICATION = "tests.chaos.faulty_app"

SECOND = "gpu2"
"""The name of the second gpu worker."""


@dataclass(frozen=True)
class Services:
    """What a testbed uses instead of a folder for its objects, and of its Redis for messages."""

    s3: Swift | None = None
    rabbitmq: RabbitMQ | None = None


NO_SERVICES = Services()


class Testbed(Supervisor):
    """A farm whose registry is a Redis of its own.

    `environ` are the variables of its workers besides those that the testbed sets.
    """

    def __init__(self, home: Path, environ: Mapping[str, str], services: Services) -> None:
        self.redis = Broker(Settings(home=home))
        self.rabbitmq = services.rabbitmq
        self.service = services.s3
        self.environ = {
            **os.environ,
            **(new_bucket(self.service) if self.service else {}),
            "FARM_HOME": str(home),
            "FARM_BROKER_URL": self.rabbitmq.new_vhost() if self.rabbitmq else self.redis.url,
            "FARM_REGISTRY_URL": self.redis.url,
            "FARM_CPU_CONCURRENCY": "1",
            "OMP_NUM_THREADS": "1",
            "FARM_REMOTE_CONTROL": "true",  # starts and stops the second gpu worker's consuming
            **environ,
        }
        super().__init__(Settings.load(self.environ))
        self.control = make_app(self.settings).control
        self.farm = Farm(settings=self.settings)
        self.second_worker: ForkedWorker | None = None
        self.hook: Receiver | None = None
        """Receives the webhook of the first job."""

    def start_worker(self, kind: WorkerKind, name: str) -> ForkedWorker:
        command = worker_command(kind, self.settings, application=APPLICATION)
        command = [word.replace(f"{kind}@", f"{name}@") for word in command]
        return fork_worker(command, log=self.log(kind), environ=self.environ)

    def start_second_gpu_worker(self) -> None:
        """Starts one that consumes no messages for now, and is not replaced when it dies."""
        self.second_worker = self.start_worker("gpu", SECOND)
        workers = len(KINDS) + 1
        self.wait_for(lambda: len(self.control.ping(timeout=0.5)) == workers)
        self._control_second_worker(self.control.cancel_consumer)

    def enable_second_gpu_worker(self) -> None:
        """Lets the second gpu worker consume messages."""
        self._control_second_worker(self.control.add_consumer)

    def _control_second_worker(self, command: Callable[..., Any]) -> None:
        command("gpu", destination=[f"{SECOND}@{gethostname()}"], reply=True)

    def child_of(self, kind: WorkerKind) -> int:
        """The process in which the tasks of a worker run."""
        return self.wait_for(lambda: children_of(self.children[kind].pid))[0]

    @contextmanager
    def broken_store(self) -> Iterator[None]:
        """A store that refuses writes until the block ends.

        With a folder as store, the workers need the fault `read_only`.
        """
        if self.service:
            self.service.kill()
            yield
            self.service.start()
            return
        note = self.settings.folder / "chaos" / "read_only"
        note.parent.mkdir(exist_ok=True)
        note.touch()
        yield
        note.unlink()

    def kill_broker(self) -> None:
        """Kills broker and registry."""
        if self.rabbitmq:
            self.rabbitmq.kill()
        assert self.redis.process is not None
        self.redis.process.kill()
        self.redis.process.wait()

    def start_broker(self) -> None:
        """Starts both again at the same addresses, with what they have on disk."""
        assert self.redis.process is not None
        command = [str(word) for word in self.redis.process.args]  # type: ignore[union-attr]
        log = self.settings.folder / "logs" / "broker.log"
        self.redis.process = spawn(command, log=log, environ=os.environ)
        self.wait_for(self.redis_answers)
        if self.rabbitmq:
            self.rabbitmq.start()

    def drop_connections(self) -> None:
        """Of all clients and workers, to broker and registry."""
        with redis.Redis.from_url(self.redis.url) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        if self.rabbitmq:
            self.rabbitmq.drop_connections()

    def redis_answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.redis.url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def wait_for(self, condition: Callable[[], Value]) -> Value:
        """The first true value of a condition; dead workers are replaced meanwhile."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                raise TimeoutError(f"it did not happen within {TIMEOUT_S} s")
            self.replace_dead(lambda _: None)
            time.sleep(0.05)

    def close(self) -> None:
        if self.second_worker:
            self.second_worker.send_signal(signal.SIGCONT)
            stop([self.second_worker], grace_s=10)
        self.stop()
        self.redis.stop()

    def _start(self, kind: WorkerKind) -> None:  # type: ignore[override]
        self.children[kind] = self.start_worker(kind, kind)  # type: ignore[assignment]


def new_bucket(service: Swift) -> dict[str, str]:
    """The variables of workers that keep their objects in a new bucket of the service."""
    settings = service.settings(store_retry_s=Settings().store_retry_s)
    given = settings.model_dump(exclude_unset=True)
    return {f"FARM_{name.upper()}": str(value) for name, value in given.items()}


@contextmanager
def open_testbed(
    home: Path, environ: Mapping[str, str], services: Services = NO_SERVICES
) -> Iterator[Testbed]:
    """A testbed that runs until the block ends."""
    bed = Testbed(home, environ, services)
    try:
        bed.start()
        bed.wait_until_ready()
        yield bed
    finally:
        bed.close()
