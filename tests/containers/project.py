"""The farm of compose.yaml, in an engine of the tests, and a client of it on the host."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from farm import Farm, Job
from farm.settings import Settings
from tests.containers.engine import Engine
from tests.containers.images import ROOT
from tests.support.ports import free_ports

Value = TypeVar("Value")

NAME = "farmtest"
LISTENING = (
    *("REGISTRY", "S3", "GATEWAY", "PAGE", "FLOWER", "RABBITMQ", "RABBITMQ_API"),
    *("PROMETHEUS", "GRAFANA"),
)
RUNNING = ("registry", "s3", "cpu", "gpu", "gc", "gateway")
"""The services without a profile that stay up, but for the page, which CI builds no image of."""

UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
"""Those of `docker stats`."""

TIMEOUT_S = 600
"""A job that takes longer counts as lost."""

QUICK = {"FARM_LEASE_S": "5", "FARM_REAP_EVERY_S": "1", "FARM_CPU_CONCURRENCY": "1"} | {
    "OMP_NUM_THREADS": "1"  # threads of several processes on two cores spin
}
"""Settings with which a fault is noticed within seconds."""


class Project:
    """A project of compose.yaml with an .env of its own, on free ports."""

    def __init__(self, engine: Engine, folder: Path, **variables: str) -> None:
        self.engine = engine
        self.folder = folder
        self.file = folder / ".env"
        self.overrides: list[Path] = []
        self.logs: dict[str, tuple[str, str]] = {}
        """The service and the log of each container of a worker."""
        ports = dict(zip(LISTENING, free_ports(len(LISTENING)), strict=True))
        listen = {f"{name}_LISTEN": f"127.0.0.1:{port}" for name, port in ports.items()}
        base = {"FARM_S3_PUBLIC_BASE": f"http://{listen['S3_LISTEN']}"}
        self.variables = {**created(), **listen, **base, **QUICK, **variables}
        self._write()

    def set(self, **variables: str) -> None:
        """Changes .env, for the next `up`."""
        self.variables |= variables
        self._write()

    def unset(self, *variables: str) -> None:
        """Lets variables have their defaults again, from the next `up` on."""
        for name in variables:
            del self.variables[name]
        self._write()

    def compose(self, *words: str, check: bool = True) -> str:
        """What `docker compose` prints."""
        files = [word for file in self.overrides for word in ("--file", str(file))]
        project = ("--project-name", NAME, "--env-file", str(self.file))
        main = ("--file", str(ROOT / "compose.yaml"))
        return self.engine.run("compose", *project, *main, *files, *words, check=check)

    def up(self, *services: str) -> float:
        """Starts services, by default all of RUNNING; returns after how long they were well."""
        start = time.monotonic()
        self.compose("up", "--detach", *(services or RUNNING))
        self.wait_until_well(*(services or RUNNING))
        return time.monotonic() - start

    def wait_until_well(self, *services: str) -> None:
        self.wait_for(lambda: all(self.is_well(service) for service in services))

    def is_well(self, service: str) -> bool:
        """Whether its containers run, and are healthy if they can tell."""
        states = [each["State"] for each in self.containers(service)]
        good = ("healthy", "none")
        return bool(states) and all(
            state["Running"] and state.get("Health", {"Status": "none"})["Status"] in good
            for state in states
        )

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What the engine knows about the containers of a service."""
        ids = self.compose("ps", "--all", "--quiet", service).split()
        return list(json.loads(self.engine.run("inspect", *ids))) if ids else []

    def kill(self, service: str) -> None:
        self.compose("kill", service)

    def start(self, service: str) -> None:
        self.compose("start", service)
        self.wait_until_well(service)

    def log(self, service: str) -> str:
        """What the containers of a service have logged."""
        return "".join(self.engine.run("logs", each["Id"]) for each in self.containers(service))

    def memory_in_use(self, service: str) -> int:
        """Bytes of the container of a service."""
        (container,) = self.containers(service)
        form = ("--no-stream", "--format", "{{.MemUsage}}")
        number, unit = re.findall(
            r"([\d.]+)(\w+)", self.engine.run("stats", *form, container["Id"])
        )[0]
        return int(float(number) * UNITS[unit])

    def limit_memory(self, service: str, limit: int) -> None:
        """Changes the limit of a running container."""
        (container,) = self.containers(service)
        size = (f"--memory={limit}", f"--memory-swap={limit}")
        self.engine.run("update", *size, container["Id"])

    def registry(self, *words: str) -> str:
        """What a command of Valkey answers."""
        command = 'REDISCLI_AUTH="$VALKEY_PASSWORD" exec valkey-cli "$@"'
        return self.compose("exec", "-T", "registry", "sh", "-c", command, "sh", *words)

    def keep_logs(self) -> None:
        """Reads what the workers have logged; called before one of their containers is replaced."""
        for service in ("cpu", "gpu"):
            for container in self.containers(service):
                text = self.engine.run("logs", container["Id"])
                self.logs[container["Id"]] = service, text

    def write_logs(self, home: Path) -> None:
        """Writes what the workers have logged, where `WorkerLogs` reads it."""
        self.keep_logs()
        (home / "logs").mkdir(parents=True, exist_ok=True)
        for wanted in ("cpu", "gpu"):
            texts = [text for service, text in self.logs.values() if service == wanted]
            (home / "logs" / f"{wanted}.log").write_text("\n".join(texts))

    @property
    def environ(self) -> dict[str, str]:
        """The variables with which a client on the host finds this farm."""
        password, s3 = self.variables["REGISTRY_PASSWORD"], self.variables["S3_LISTEN"]
        return {
            "FARM_BROKER_URL": f"redis://:{password}@{self.variables['REGISTRY_LISTEN']}/0",
            "FARM_STORE_URL": "s3://farm",
            "FARM_S3_ENDPOINT": f"http://{s3}",
            "FARM_S3_ACCESS_KEY": self.variables["FARM_S3_ACCESS_KEY"],
            "FARM_S3_SECRET_KEY": self.variables["FARM_S3_SECRET_KEY"],
            "FARM_HOME": str(self.folder / "home"),
        }

    @property
    def over_rabbitmq(self) -> dict[str, str]:
        """Variables with which the farm has RabbitMQ as its broker."""
        login = f"farm:{self.variables['RABBITMQ_PASSWORD']}"
        return {
            "FARM_BROKER_URL": f"amqp://{login}@rabbitmq:5672",
            "FARM_BROKER_API": f"http://{login}@rabbitmq:15672",
            "FARM_REGISTRY_URL": f"redis://:{self.variables['REGISTRY_PASSWORD']}@registry:6379/0",
        }

    @property
    def farm(self) -> Farm:
        return Farm(settings=Settings.load(self.environ))

    def wait_for(self, condition: Callable[[], Value], timeout_s: float = TIMEOUT_S) -> Value:
        """The first true value of a condition."""
        deadline = time.monotonic() + timeout_s
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                state = self.compose("ps", "--all") + self.compose("logs", "--tail", "15")
                raise TimeoutError(f"it did not happen within {timeout_s:.0f} s\n{state}")
            time.sleep(0.2)

    def wait_for_chunk(self, job: Job, chunk: int) -> None:
        """Returns once a job has begun a chunk, or has ended."""

        def reached() -> bool:
            status = job.status()
            found = re.match(r"chunk_(\d+)", status.stage)
            return status.ended or bool(found and int(found[1]) >= chunk)

        self.wait_for(reached)

    def _write(self) -> None:
        lines = (f"{name}={value}\n" for name, value in self.variables.items())
        self.file.write_text("".join(lines))


def created() -> dict[str, str]:
    """What `make .env` writes."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / ".env"
        subprocess.run([sys.executable, str(ROOT / "docker" / "env.py"), str(file)], check=True)
        lines = file.read_text().splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


@contextmanager
def open_project(engine: Engine, folder: Path, **variables: str) -> Iterator[Project]:
    """A running project until the block ends, which leaves nothing of it."""
    project = Project(engine, folder, **variables)
    try:
        project.up()
        yield project
    finally:
        project.compose("down", "--volumes", "--timeout", "5", check=False)
