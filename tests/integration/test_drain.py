"""Workers that drain release their steps at once, and end within their grace period."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from farm import Farm, Job
from farm.job import Result
from farm.local.broker import Broker
from farm.local.process import spawn, stop
from farm.local.worker import worker_command
from farm.queue.brokers.redis import UNACKED
from farm.queue.dead_letters import require_redis
from farm.registry.attempt_id import fence_of
from farm.route import Queue
from farm.settings import Settings
from tests.integration.conftest import ENDLESS, ONE_CHUNK
from tests.support.commands import environ_of
from tests.support.holding import hold, job_held_at
from tests.support.processes import children_of
from tests.support.small_farm import SmallFarm, small_farm
from tests.support.videos import decoded_frames
from tests.support.waiting import wait_for, wait_for_stage

pytestmark = pytest.mark.usefixtures("restarted")

WARM_SHUTDOWN = "worker: Warm shutdown"
COLD_SHUTDOWN = "worker: Cold shutdown"
"""What Celery writes when a worker begins to drain, and when it interrupts its steps."""


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallFarm]:
    """A farm whose leases and grace period outlast every test, so that neither helps a step on."""
    home = tmp_path_factory.mktemp("home")
    with small_farm(home, lease_s=3600, grace_s=3600) as supervisor:
        yield supervisor


class WorkerLog:
    """What a worker writes from now on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = path.stat().st_size if path.exists() else 0

    @property
    def text(self) -> str:
        return self.path.read_text()[self.offset :] if self.path.exists() else ""

    def wait_for(self, text: str) -> None:
        wait_for(lambda: text in self.text)


def drain(supervisor: SmallFarm, queue: Queue, release: Callable[[], None]) -> str:
    """Lets a worker drain, releases its held step, and returns what the worker wrote to its end."""
    worker = supervisor.children[queue]
    log = WorkerLog(supervisor.log(queue))
    worker.terminate()
    log.wait_for(WARM_SHUTDOWN)
    release()
    assert worker.wait() == 0
    return log.text


def counted_attempts(farm: Farm, job: Job, step_id: str) -> int:
    """Counted attempts at a step that no worker holds."""
    steps = farm.context.registry.steps
    lease = steps.acquire(job.id, step_id, lease_s=60, max_attempts=9)
    assert lease, f"another attempt holds {step_id}"
    steps.release(lease, retry_after_s=0, counted=False)
    return lease.attempts - 1


@dataclass(frozen=True)
class Drained:
    """A job whose gpu worker drained in the middle of its second chunk."""

    job: Job
    result: Result
    log: str
    """What the worker and its replacement wrote."""


@pytest.fixture(scope="module")
def request_fields(small: dict[str, Any]) -> dict[str, Any]:
    """Three chunks of many steps: the signal reaches a worker before the chunk ends."""
    return {**small, "sample_steps": 40, "max_frame_num": 53}


@pytest.fixture(scope="module")
def drained(supervisor: SmallFarm, farm: Farm, request_fields: dict[str, Any]) -> Drained:
    log = WorkerLog(supervisor.log("gpu"))
    with hold(supervisor.settings, "chunk_1_sampling_50") as release:
        job = farm.submit(request_fields)
        wait_for_stage(job, "chunk_1_sampling_50")
        drain(supervisor, "gpu", release)
    supervisor.restart_dead()
    return Drained(job, job.result(), log.text)


def test_a_draining_gpu_worker_leaves_its_chunk_to_the_next(
    farm: Farm, drained: Drained, request_fields: dict[str, Any]
) -> None:
    steps = farm.context.registry.steps
    committed = [steps.committed(drained.job.id, f"generate-{chunk:04d}") for chunk in range(3)]
    fences = [fence_of(chunk.attempt_id) for chunk in committed]
    assert fences == [1, 2, 1], "the finished chunk was kept"
    undisturbed = farm.submit(request_fields).result()
    assert decoded_frames(drained.result.video.url) == decoded_frames(undisturbed.video.url)


def test_a_draining_worker_requeues_its_message(drained: Drained) -> None:
    assert f'"task_id": "{drained.job.id}-c0001-a1"' in drained.log
    assert f"{drained.job.id}-c0001-a2" not in drained.log, "the step was not dispatched again"


def test_a_released_attempt_is_not_counted_and_leaves_no_files(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    with hold(supervisor.settings, "chunk_0_sampling_0") as release:
        job = farm.submit({**small, **ENDLESS})
        wait_for_stage(job, "chunk_0_sampling_0")
        log = drain(supervisor, "gpu", release)

    attempts = counted_attempts(farm, job, "generate-0000")
    job.cancel()
    assert '"reason": "WorkerDraining"' in log
    assert attempts == 0
    assert list(Path(tempfile.gettempdir()).glob(f"farm-{job.id}-*")) == []


def test_a_draining_cpu_worker_leaves_each_of_its_steps_to_the_next(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    stages = ["downloads_started", "embeddings_started", "muxing_started"]
    with ExitStack() as held:
        release = {stage: held.enter_context(hold(supervisor.settings, stage)) for stage in stages}
        job = farm.submit({**small, **ONE_CHUNK})
        for stage in stages:
            wait_for_stage(job, stage)
            drain(supervisor, "cpu", release[stage])
            supervisor.restart_dead()

    assert job.result().status == "success"


def test_a_message_in_the_queue_outlives_a_draining_worker(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    worker = supervisor.children["cpu"]
    job = farm.submit({**small, **ONE_CHUNK})
    worker.terminate()
    worker.wait()
    supervisor.restart_dead()

    assert job.result().status == "success"


def test_the_second_signal_interrupts_the_step(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    worker = supervisor.children["gpu"]
    log = WorkerLog(supervisor.log("gpu"))
    with job_held_at("chunk_0_sampling_0", farm, small) as job:  # it never reaches its next step
        worker.terminate()
        log.wait_for(WARM_SHUTDOWN)
        worker.terminate()
        assert worker.wait() == 0

    attempts = counted_attempts(farm, job, "generate-0000")
    job.cancel()
    assert '"reason": "SystemExit"' in log.text
    assert attempts == 0


@dataclass(frozen=True)
class LoneWorker:
    """One worker with a broker of its own and a grace period of a second."""

    broker: Broker
    settings: Settings
    process: subprocess.Popen[bytes]
    log: WorkerLog

    def freeze_children(self) -> list[int]:
        children = children_of(self.process.pid)
        for child in children:
            os.kill(child, signal.SIGSTOP)
        return children


@contextmanager
def lone_worker(home: Path, queue: Queue) -> Iterator[LoneWorker]:
    broker = Broker(Settings(home=home))
    settings = Settings(home=home, broker_url=broker.url, cpu_concurrency=1)
    environ = {**os.environ, **environ_of(settings), "FARM_GRACE_S": "1"}
    environ["FARM_DOWNLOAD_CONCURRENCY"] = "0"
    log = WorkerLog(home / "worker.log")
    process = spawn(worker_command(queue, settings), log=log.path, environ=environ)
    try:
        log.wait_for("ready.")
        yield LoneWorker(broker, settings, process, log)
    finally:
        stop([process], grace_s=0)
        broker.stop()


def test_a_worker_whose_child_hangs_ends_after_its_grace_period(
    tmp_path: Path, small: dict[str, Any]
) -> None:
    with lone_worker(tmp_path, "cpu") as worker:
        (child,) = worker.freeze_children()
        farm = Farm(settings=worker.settings)
        farm.submit(small)
        broker = require_redis(farm.context.registry)
        wait_for(lambda: broker.redis.hlen(broker.key(UNACKED)) == 1)

        worker.process.terminate()
        worker.process.wait()

        warm, cold = (worker.log.text.index(each) for each in (WARM_SHUTDOWN, COLD_SHUTDOWN))
        assert warm < cold, "the step was interrupted only after the grace period"
        assert not Path(f"/proc/{child}").exists()


def test_a_worker_that_still_loads_its_model_ends(tmp_path: Path) -> None:
    with lone_worker(tmp_path, "gpu") as worker:
        worker.process.terminate()
        worker.process.wait()

        assert WARM_SHUTDOWN in worker.log.text


def test_a_worker_ends_although_its_broker_is_gone(tmp_path: Path) -> None:
    with lone_worker(tmp_path, "cpu") as worker:
        worker.freeze_children()

        worker.process.terminate()
        worker.broker.stop()  # the worker's heartbeat, every 2 s, tries to connect for ever

        worker.process.wait()


def test_a_worker_whose_cold_shutdown_hangs_ends_all_the_same(tmp_path: Path) -> None:
    # Given a process whose cold shutdown waits for a lock for ever, as Celery's once did in trials
    worker = draining_process(
        tmp_path,
        """
lock = threading.Lock()
lock.acquire()
signal.signal(signal.SIGQUIT, lambda *_: lock.acquire())
drain()
lock.acquire()
""",
    )

    assert worker.wait() == 1


def test_the_end_of_the_grace_period_does_not_kill_a_worker_that_is_exiting(
    tmp_path: Path,
) -> None:
    # Given a process whose interpreter is still clearing up when its grace period ends
    worker = draining_process(
        tmp_path,
        """
class SlowToDelete:
    def __del__(self, sleep=time.sleep):
        sleep(2)

kept = SlowToDelete()
drain()
""",
    )

    assert worker.wait() == 0


def draining_process(folder: Path, program: str) -> subprocess.Popen[bytes]:
    """A process that may call `drain()`, which gives it a grace period of a second."""
    beginning = """
import signal, threading, time
from celery.signals import worker_shutting_down
import farm.tasks.drain

def drain():
    worker_shutting_down.send("a worker", sig="SIGTERM", how="Warm", exitcode=0)
"""
    environ = {**os.environ, "FARM_BROKER_URL": "redis://127.0.0.1:1/0", "FARM_GRACE_S": "1"}
    command = [sys.executable, "-c", beginning + program]
    return spawn(command, log=folder / "worker.log", environ=environ)
