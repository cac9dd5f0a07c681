"""Workers that are asked to go: what they have in hand is another's at once, and they are gone within their grace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from farm import Farm, Job
from farm.local.broker import Broker
from farm.local.process import spawn
from farm.local.supervisor import Supervisor, open_supervisor
from farm.local.worker import worker_command
from farm.settings import Settings
from tests.integration.test_farm import children_of, eventually, local

GRACE_S = 10
BROKEN_OFF_S = GRACE_S + 8
"""When even a worker that hangs is gone."""

LONG = {"sample_steps": 1000, "frame_num": 81, "motion_frame": 9}
"""A chunk that takes minutes, with steps that take some tenths of a second."""


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """A farm whose leases outlast every test, so that nothing goes on because a lease has run out."""
    given = {"home": tmp_path_factory.mktemp("home"), "lease_s": 600, "grace_s": GRACE_S, "reap_every_s": 1}
    with pytest.MonkeyPatch.context() as environ:
        for name in ("lease_s", "grace_s"):
            environ.setenv(f"FARM_{name.upper()}", str(given[name]))
        with open_supervisor(Settings(**given)) as supervisor:
            yield supervisor


@pytest.fixture(scope="module")
def farm(supervisor: Supervisor) -> Farm:
    return Farm(settings=supervisor.settings)


@pytest.fixture(autouse=True)
def _hired_again(supervisor: Supervisor) -> Iterator[None]:
    """Workers that a test has sent away are there again for the next."""
    yield
    supervisor.replace_dead(lambda _: None)


def gone_within(worker: subprocess.Popen[bytes], seconds: float) -> int:
    """The exit status of a worker that ends in time."""
    return worker.wait(timeout=seconds)


def attempts(farm: Farm, job: Job, step_id: str) -> int:
    """How many attempts at a product are counted."""
    lease = farm.context.registry.steps.acquire(job.id, step_id, lease_s=60, max_attempts=9)
    assert lease, f"{step_id} is another's"
    farm.context.registry.steps.release(lease, retry_after_s=0, counted=False)
    return lease.attempts - 1


def pictures(url: str) -> list[bytes]:
    with av.open(str(local(url))) as video:
        return [frame.to_ndarray().tobytes() for frame in video.decode(video=0)]


def test_a_gpu_worker_that_is_asked_to_go_leaves_its_chunk_to_the_next(supervisor: Supervisor, farm: Farm, small: Any) -> None:
    request = {**small, "sample_steps": 10, "max_frame_num": 53}
    unbroken = farm.submit(request).result(timeout_s=120)
    job = farm.submit(request)
    eventually(lambda: job.status().stage.startswith("chunk_1_sampling_"))

    supervisor.children["gpu"].terminate()

    assert gone_within(supervisor.children["gpu"], GRACE_S) == 0
    supervisor.replace_dead(lambda _: None)
    result = job.result(timeout_s=60)
    segments = [farm.context.registry.steps.committed(job.id, f"generate-{chunk:04d}")["segment"] for chunk in range(3)]
    assert [key.split("/")[3] for key in segments] == ["0001", "0002", "0001"], "the finished chunk was kept"
    assert pictures(result.video.url) == pictures(unbroken.video.url)
    log = supervisor.log("gpu").read_text()
    assert f"{job.id}-c0001-a2" not in log, "the message itself was handed back, nobody had to ring again"


def test_an_attempt_that_was_handed_back_is_not_counted(supervisor: Supervisor, farm: Farm, small: dict[str, Any]) -> None:
    job = farm.submit({**small, **LONG})
    eventually(lambda: "_sampling_" in job.status().stage)

    supervisor.children["gpu"].terminate()

    gone_within(supervisor.children["gpu"], GRACE_S)
    assert attempts(farm, job, "generate-0000") == 0
    assert list(Path("/tmp").glob(f"farm-{job.id}-*")) == []
    job.cancel()


@pytest.mark.parametrize("stage", ["queued", "downloads", "embeddings", "mux"])
def test_a_cpu_worker_that_is_asked_to_go_leaves_its_step_to_the_next(
    supervisor: Supervisor, farm: Farm, small: dict[str, Any], stage: str
) -> None:
    job = farm.submit({**small, "max_frame_num": 21})
    eventually(lambda: job.status().stage.startswith(stage) or job.status().ended)

    supervisor.children["cpu"].terminate()

    gone_within(supervisor.children["cpu"], BROKEN_OFF_S)
    supervisor.replace_dead(lambda _: None)
    assert job.result(timeout_s=60).status == "success"


def test_the_second_signal_breaks_the_step_off_where_it_stands(supervisor: Supervisor, farm: Farm, small: dict[str, Any]) -> None:
    job = farm.submit({**small, **LONG})
    eventually(lambda: "_sampling_" in job.status().stage)
    (child,) = children_of(supervisor.children["gpu"].pid)
    os.kill(child, signal.SIGSTOP)  # so that it cannot reach its next step

    supervisor.children["gpu"].terminate()
    time.sleep(0.5)
    supervisor.children["gpu"].terminate()
    time.sleep(0.5)
    os.kill(child, signal.SIGCONT)

    assert gone_within(supervisor.children["gpu"], GRACE_S) == 0
    assert '"reason": "SystemExit"' in supervisor.log("gpu").read_text()
    assert attempts(farm, job, "generate-0000") == 0
    job.cancel()


def test_a_worker_whose_child_hangs_is_gone_soon_after_its_grace(supervisor: Supervisor, farm: Farm, small: Any) -> None:
    job = farm.submit({**small, **LONG})
    eventually(lambda: "_sampling_" in job.status().stage)
    (child,) = children_of(supervisor.children["gpu"].pid)
    os.kill(child, signal.SIGSTOP)

    supervisor.children["gpu"].terminate()

    gone_within(supervisor.children["gpu"], BROKEN_OFF_S)
    assert not Path(f"/proc/{child}").exists()
    job.cancel()


def test_a_worker_that_still_loads_its_model_is_gone_soon_after_its_grace(supervisor: Supervisor) -> None:
    supervisor.children["gpu"].kill()
    supervisor.children["gpu"].wait()
    told = supervisor.log("gpu").stat().st_size
    supervisor.replace_dead(lambda _: None)
    eventually(lambda: "gpu@" in supervisor.log("gpu").read_text()[told:])

    supervisor.children["gpu"].terminate()

    gone_within(supervisor.children["gpu"], BROKEN_OFF_S)


def test_a_worker_whose_broker_goes_away_meanwhile_is_gone_all_the_same(tmp_path: Path) -> None:
    settings, log = Settings(home=tmp_path), tmp_path / "worker.log"
    broker = Broker(settings)
    environ = {**os.environ, "FARM_HOME": str(tmp_path), "FARM_GRACE_S": "4"}
    worker = spawn(worker_command("cpu", settings), log=log, environ=environ)
    eventually(lambda: log.is_file() and "ready." in log.read_text())
    for child in children_of(worker.pid):
        os.kill(child, signal.SIGSTOP)

    worker.terminate()
    broker.stop()  # so that the worker's heart, which beats every 2 s, calls for it for ever

    gone_within(worker, 4 + 8)


def test_a_worker_that_cannot_say_goodbye_is_gone_all_the_same(tmp_path: Path) -> None:
    # Given a process whose cold shutdown waits for a lock that nobody lets go of, as Celery's did once in trials
    program = (
        "import signal, threading; from celery.signals import worker_shutting_down; import tasks.drain; "
        "lock = threading.Lock(); lock.acquire(); signal.signal(signal.SIGQUIT, lambda *_: lock.acquire()); "
        "worker_shutting_down.send('a worker', sig='SIGTERM', how='Warm', exitcode=0); lock.acquire()"
    )
    environ = {**os.environ, "FARM_BROKER_URL": "redis://127.0.0.1:1/0", "FARM_GRACE_S": "1"}
    worker = spawn([sys.executable, "-c", program], log=tmp_path / "worker.log", environ=environ)

    assert gone_within(worker, 1 + 8 + 5) == 1, (tmp_path / "worker.log").read_text()
