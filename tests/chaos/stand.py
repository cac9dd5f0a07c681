"""A farm on the test stand: its broker and its workers can be killed, paused, started again and given a fault."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname
from typing import Any

import redis

from farm import Farm
from farm.local.broker import Broker
from farm.local.process import spawn, stop
from farm.local.supervisor import Supervisor
from farm.local.worker import worker_command
from farm.route import Queue
from farm.settings import Settings
from tests.support.receiver import Receiver
from tests.support.swift import Swift

PATIENCE_S = 300
SECOND = "gpu2"
"""The name of the second gpu worker."""


class Stand(Supervisor):
    """`environ` is what workers see besides the stand's own; goods lie in a folder, or in a bucket of the service."""

    def __init__(self, home: Path, environ: Mapping[str, str], service: Swift | None) -> None:
        self.broker = Broker(Settings(home=home))
        self.service = service
        self.environ = {
            **os.environ,
            **(bucket(service) if service else {}),
            "FARM_HOME": str(home),
            "FARM_BROKER_URL": self.broker.url,
            "OMP_NUM_THREADS": "1",
            **environ,
        }
        super().__init__(Settings.load(self.environ))
        self.farm = Farm(settings=self.settings)
        self.extra: list[subprocess.Popen[bytes]] = []
        self.hook: Receiver | None = None
        """Who is called at the end of the first job."""

    def worker(self, queue: Queue, name: str) -> subprocess.Popen[bytes]:
        """Starts one worker."""
        command = worker_command(queue, self.settings, application="tests.chaos.hooked")
        command = [word.replace(f"{queue}@", f"{name}@") for word in command]
        return spawn(command, log=self.log(queue), environ=self.environ)

    def second_gpu_worker(self, *, listens: bool) -> None:
        """One more, which is not started again when it dies; told whether it takes messages."""
        if not self.extra:
            self.extra.append(self.worker("gpu", SECOND))
            self.until(lambda: len(self.app.control.ping(timeout=0.5)) == len(self.children) + 1)
        tell = self.app.control.add_consumer if listens else self.app.control.cancel_consumer
        tell("gpu", destination=[f"{SECOND}@{gethostname()}"], reply=True)

    def child(self, queue: Queue) -> int:
        """The process in which a worker's tasks run."""
        found: list[str] = self.until(lambda: _children(self.children[queue].pid))
        return int(found[0])

    @contextmanager
    def broken_store(self) -> Iterator[None]:
        """A store that takes nothing while the block runs; a folder needs the fault `read_only` in its workers."""
        note = self.settings.folder / "chaos" / "read_only"
        if self.service:
            self.service.kill()
        else:
            note.parent.mkdir(exist_ok=True)
            note.touch()
        yield
        if self.service:
            self.service.start()
        else:
            note.unlink()

    def kill_broker(self) -> None:
        assert self.broker.process is not None
        self.broker.process.kill()
        self.broker.process.wait()

    def start_broker(self) -> None:
        """Again, where it was, with what its append-only file holds."""
        assert self.broker.process is not None
        log = self.settings.folder / "logs" / "broker.log"
        self.broker.process = spawn(list(self.broker.process.args), log=log, environ=os.environ)  # type: ignore[arg-type]
        self.until(self.broker_answers)

    def broker_answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.broker.url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def until(self, what: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
        """What `what` returns once that is true; dead workers are replaced meanwhile."""
        deadline = time.monotonic() + seconds
        while not (found := what()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"it did not happen within {seconds:g} s")
            self.replace_dead(lambda _: None)
            time.sleep(0.05)
        return found

    def close(self) -> None:
        for child in self.extra:
            child.send_signal(signal.SIGCONT)
        stop(self.extra, grace_s=10)
        self.stop()
        self.broker.stop()

    def _start(self, queue: Queue) -> None:
        self.children[queue] = self.worker(queue, queue)


def bucket(service: Swift) -> dict[str, str]:
    """The environment of workers whose goods lie in a new bucket of the service."""
    given = service.settings(store_retry_s=Settings().store_retry_s).model_dump(exclude_unset=True)
    return {f"FARM_{name.upper()}": str(value) for name, value in given.items()}


@contextmanager
def stand(home: Path, environ: Mapping[str, str], service: Swift | None = None) -> Iterator[Stand]:
    """A stand that is up while the block runs."""
    up = Stand(home, environ, service)
    try:
        up.start()
        up.wait_until_ready()
        yield up
    finally:
        up.close()


def left_behind(home: Path) -> int:
    """Processes that were started for this home and still run."""
    return sum(_is_ours(folder, home) for folder in Path("/proc").glob("[0-9]*") if folder.name != str(os.getpid()))


def _is_ours(folder: Path, home: Path) -> bool:
    try:
        dead = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        return not dead and f"FARM_HOME={home}\0".encode() in (folder / "environ").read_bytes()
    except OSError:
        return False


def _children(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
