"""Cancelling jobs of a real farm: wherever they are, they end as cancelled everywhere, and nothing is left of them."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.events.state import State

from farm import Farm, Job
from farm.local.supervisor import Supervisor
from farm.store import keys
from tests.integration.test_farm import eventually


class Monitor:
    """What Flower knows: the state of each message, gathered from the workers' events."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.state: State = supervisor.app.events.State()
        self.receiver = supervisor.app.events.Receiver(supervisor.app.connection_for_read(), handlers={"*": self.state.event})

    def watch(self) -> None:
        self.receiver.capture(limit=None, timeout=None, wakeup=False)

    def of(self, job: Job) -> dict[str, str]:
        """The state of each message of a job by its name, for example `c0000-a1`."""
        return {
            task_id.removeprefix(f"{job.id}-"): task.state
            for task_id, task in list(self.state.tasks.items())
            if task_id.startswith(job.id)
        }


@pytest.fixture
def monitor(supervisor: Supervisor) -> Iterator[Monitor]:
    monitor = Monitor(supervisor)
    thread = threading.Thread(target=monitor.watch)
    thread.start()
    yield monitor
    monitor.receiver.should_stop = True
    thread.join()
    monitor.receiver.connection.release()


@contextmanager
def gpu_worker_off(supervisor: Supervisor) -> Iterator[None]:
    """No worker of the gpu queue while the block runs."""
    os.killpg(supervisor.children["gpu"].pid, signal.SIGKILL)
    supervisor.children["gpu"].wait()
    try:
        yield
    finally:
        supervisor.replace_dead(lambda _: None)


def waiting(supervisor: Supervisor, jobs: list[Job]) -> int:
    """Messages of jobs in the queues, and in the hands of workers."""
    with redis.Redis.from_url(supervisor.settings.broker_url) as client:
        queues = [name for name in client.scan_iter("*", _type="list") if name[:3] in (b"cpu", b"gpu")]
        messages = [message for name in queues for message in client.lrange(name, 0, -1)] + client.hvals("unacked")
    return sum(job.id.encode() in message for message in messages for job in jobs)


def scratch(job: Job) -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"farm-{job.id}-*"))


def test_a_running_denoise_step_stops_and_leaves_nothing(farm: Farm, small: Any, monitor: Monitor) -> None:
    job = farm.submit({**small, "sample_steps": 1000})
    eventually(lambda: "_sampling_" in job.status().stage)
    assert scratch(job)

    assert farm.cancel([job.id], by="a test") == {job.id: True}

    eventually(lambda: monitor.of(job).get("c0000-a1") == "REVOKED", 10)
    assert (job.status().state, job.status().result.error.code) == ("cancelled", "E_CANCELLED")
    assert [event.stage for event in job.events()][-1] == "cancelled"
    assert scratch(job) == []
    assert farm.context.registry.steps.committed(job.id, "generate-0000") is None
    assert monitor.of(job) == {"download-a1": "SUCCESS", "embed-a1": "SUCCESS", "c0000-a1": "REVOKED"}


def test_a_job_that_waits_behind_another_never_starts(supervisor: Supervisor, farm: Farm, small: Any, monitor: Monitor) -> None:
    running = farm.submit({**small, "sample_steps": 1000})
    eventually(lambda: "_sampling_" in running.status().stage)
    queued = farm.submit(small)
    eventually(lambda: farm.context.registry.steps.committed(queued.id, "embed"))

    queued.cancel()

    assert queued.status().state == "cancelled"
    running.cancel()
    eventually(lambda: monitor.of(queued).get("c0000-a1") == "REVOKED", 10)
    assert farm.context.registry.steps.committed(queued.id, "generate-0000") is None
    assert farm.context.registry.steps.current_step_id(queued.id) == "embed", "nobody took its chunk"


def test_a_job_whose_worker_is_off_is_cancelled_at_once_and_stays_it(
    supervisor: Supervisor, farm: Farm, small: Any, monitor: Monitor
) -> None:
    with gpu_worker_off(supervisor):
        job = farm.submit(small)
        eventually(lambda: farm.context.registry.steps.committed(job.id, "embed"))
        job.cancel()
        assert job.status().state == "cancelled"

    eventually(lambda: monitor.of(job).get("c0000-a1") == "REVOKED")
    assert job.status().state == "cancelled"
    assert farm.context.registry.steps.committed(job.id, "generate-0000") is None


def test_a_whole_batch_is_cancelled(supervisor: Supervisor, farm: Farm, small: Any, monitor: Monitor) -> None:
    jobs = [farm.submit({**small, "sample_steps": 1000, "base_seed": seed}) for seed in range(6)]
    eventually(lambda: any("_sampling_" in job.status().stage for job in jobs))

    assert waiting(supervisor, jobs)

    farm.cancel([job.id for job in jobs], by="a test")

    assert {job.status().state for job in jobs} == {"cancelled"}
    assert not {job.id for job in jobs} & set(farm.context.registry.jobs.live())
    eventually(lambda: waiting(supervisor, jobs) == 0, 30)
    eventually(lambda: all("REVOKED" in monitor.of(job).values() for job in jobs), 10)
    assert not {"PENDING", "STARTED", "RECEIVED", "FAILURE"} & {at for job in jobs for at in monitor.of(job).values()}
    assert [path for job in jobs for path in scratch(job)] == []
    assert farm.submit({**small, "max_frame_num": 21}).result(timeout_s=60).status == "success"


def test_a_playlist_that_the_canceller_left_open_is_closed_by_the_reaper(farm: Farm, small: Any) -> None:
    job = farm.submit(small)
    eventually(lambda: job.status().stage.startswith("chunk_1_"))
    key = keys.playlist(job.id)

    farm.context.registry.jobs.cancel(job.id, by="somebody who dies right after")

    eventually(lambda: farm.context.store.get(key).endswith(b"#EXT-X-ENDLIST\n"), 10)
    eventually(lambda: job.id not in farm.context.registry.jobs.live(), 10)
    time.sleep(0.5)
    assert farm.context.store.get(key).count(b"ENDLIST") == 1
