"""A farm without a GPU: a cpu worker, bridges, and handlers of a serverless endpoint."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farm import Farm, Job
from farm.engine.advance import chunk_count
from farm.errors import FarmUnreachable
from farm.local.broker import Broker
from farm.local.process import spawn, stop, tail
from farm.local.worker import worker_command
from farm.registry.outputs import ChunkOutput, Committed
from farm.route import Step
from farm.settings import Settings
from tests.support.fork_server import ForkedWorker, fork_worker
from tests.support.holding import hold
from tests.support.runpod import FakeRunpod, RemoteJob, Worker, fake_runpod, start_worker
from tests.support.small_farm import APPLICATION
from tests.support.swift import Swift
from tests.support.waiting import wait_for

ENDPOINT = "rented"
HANDLER = ("-m", "tests.support.rented_handler")

DEFAULTS: dict[str, Any] = {"cpu_concurrency": 1, "lease_s": 3, "reap_every_s": 1}


@dataclass
class RentedFarm:
    """Its processes, each of which a test may end; what is left is ended with it."""

    settings: Settings
    runpod: FakeRunpod
    broker: Broker
    environ: dict[str, str]
    _stack: ExitStack
    cpu_worker: ForkedWorker = field(init=False)
    bridges: list[ForkedWorker] = field(default_factory=list)
    handlers: list[Worker] = field(default_factory=list)

    @property
    def farm(self) -> Farm:
        return Farm(settings=self.settings)

    @property
    def remote_jobs(self) -> list[RemoteJob]:
        """Every submission to the endpoint, in its order."""
        return self.runpod.jobs(ENDPOINT)

    @contextmanager
    def chunks_held_at(self, stage: str) -> Iterator[Callable[[], None]]:
        """Lets every handler wait at a stage, until the block ends or what it yields is called."""
        homes = [self.settings.folder / worker.id for worker in self.handlers]
        with ExitStack() as stack:
            releases = [stack.enter_context(hold(Settings(home=home), stage)) for home in homes]

            def release() -> None:
                for each in releases:
                    each()

            yield release

    @contextmanager
    def broker_killed(self) -> Iterator[None]:
        """Kills the broker, and the registry in it; it is back with its data after the block."""
        assert self.broker.process is not None
        command = [str(word) for word in self.broker.process.args]  # type: ignore[union-attr]
        self.broker.process.kill()
        self.broker.process.wait()
        try:
            yield
        finally:
            self.broker.process = spawn(command, log=self.log("broker"), environ=os.environ)
            wait_for(self._broker_answers)

    def _broker_answers(self) -> bool:
        with suppress(FarmUnreachable):
            return bool(self.farm.now())
        return False

    @contextmanager
    def handlers_paused(self) -> Iterator[None]:
        """No handler does anything, but their pings go on."""
        for each in self.handlers:
            each.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for each in self.handlers:
                each.process.send_signal(signal.SIGCONT)

    def replace_bridges(self, **settings: Any) -> None:
        """Ends every bridge, and starts one."""
        for bridge in self.bridges:
            _end(bridge)
        self.start_bridge(**settings)

    def bridge_log(self) -> str:
        """What the newest bridge has logged."""
        return self.log(f"bridge-{len(self.bridges) - 1}").read_text()

    def handler(self, name: str | None) -> Worker:
        return next(each for each in self.handlers if each.id == name)

    @contextmanager
    def gpu_worker(self) -> Iterator[None]:
        """A gpu worker of the farm's own, as long as the block runs."""
        command = worker_command("gpu", self.settings, application=APPLICATION)
        worker = self._start(command, "gpu")
        try:
            yield
        finally:
            _end(worker)

    def outputs(self, job: Job) -> list[Committed]:
        """What the chunks of a job have left."""
        steps = self.farm.context.registry.steps
        found = [steps.committed(job.id, step_id) for step_id in self.chunk_ids(job)]
        return [each for each in found if each is not None]

    def frames(self, job: Job) -> list[str]:
        """The SHA-256 of each segment of a job's video."""
        outputs = self.outputs(job)
        return [each.digests[each.output_as(ChunkOutput).segment_key] for each in outputs]

    def attempts(self, job: Job) -> list[int]:
        """How many attempts at each chunk counted."""
        steps = self.farm.context.registry.steps
        return [steps.attempts(job.id, step_id) for step_id in self.chunk_ids(job)]

    def chunk_ids(self, job: Job) -> list[str]:
        chunks = chunk_count(self.farm.context, job.id) or 0
        return [Step("generate", chunk).id for chunk in range(chunks)]

    def log(self, name: str) -> Path:
        return self.settings.folder / "logs" / f"{name}.log"

    def start_cpu_worker(self) -> None:
        command = worker_command("cpu", self.settings, application=APPLICATION)
        self.cpu_worker = self._start(command, "cpu")

    def start_bridge(self, **settings: Any) -> ForkedWorker:
        name = f"bridge-{len(self.bridges)}"
        changed = self.settings.model_copy(update=settings)
        command = worker_command("bridge", changed)
        command = [word.replace("bridge@", f"{name}@") for word in command]
        self.bridges.append(self._start(command, name, variables(settings)))
        return self.bridges[-1]

    def start_handler(self, command: Sequence[str] = HANDLER, **environ: str) -> Worker:
        """A handler that knows the model's weights, and nothing of the farm."""
        name = f"pod-{len(self.handlers)}"
        home = self.settings.folder / name
        home.mkdir(exist_ok=True)
        worker = self._stack.enter_context(
            start_worker(
                self.runpod,
                command,
                self.log(name),
                endpoint=ENDPOINT,
                name=name,
                environ={"FARM_HOME": str(home), **environ},
            )
        )
        self.handlers.append(worker)
        return worker

    def _start(
        self, command: Sequence[str], name: str, extra: dict[str, str] | None = None
    ) -> ForkedWorker:
        log = self.log(name)
        worker = fork_worker(command, log=log, environ={**self.environ, **(extra or {})})
        self._stack.callback(_end, worker)

        def is_ready() -> bool:
            if worker.poll() is not None:
                raise RuntimeError(f"{name} did not start:\n{tail(log)}")
            return log.exists() and "ready." in log.read_text()

        wait_for(is_ready)
        return worker


def variables(settings: dict[str, Any]) -> dict[str, str]:
    """Settings as the environment of a process."""
    return {f"FARM_{name.upper()}": str(value) for name, value in settings.items()}


@contextmanager
def rented_farm(home: Path, swift: Swift, **settings: Any) -> Iterator[RentedFarm]:
    """A running farm with a cpu worker, and no bridge yet."""
    with ExitStack() as stack:
        runpod = stack.enter_context(fake_runpod())
        broker = Broker(Settings(home=home))
        stack.callback(broker.stop)
        given = {
            **DEFAULTS,
            **swift.settings().model_dump(exclude_unset=True),
            "home": home,
            "broker_url": broker.url,
            "runpod_url": runpod.url,
            "runpod_endpoint_id": ENDPOINT,
            "runpod_api_key": runpod.key,
            **settings,
        }
        environ = {**os.environ, **variables(given)}
        farm = RentedFarm(Settings.load(environ), runpod, broker, environ, stack)
        farm.start_cpu_worker()
        yield farm


def _end(worker: ForkedWorker) -> None:
    worker.send_signal(signal.SIGCONT)
    stop([worker], grace_s=10)  # type: ignore[list-item]
