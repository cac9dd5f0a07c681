"""Cancelled jobs of a real farm end as cancelled wherever they are, and leave nothing."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery.events.state import State

from farm import Farm, Job
from farm.queue.app import make_app
from farm.queue.brokers.redis import QUEUE_KEYS, UNACKED
from farm.queue.dead_letters import require_redis
from farm.store import keys
from tests.integration.conftest import ENDLESS, ONE_CHUNK
from tests.support.holding import job_held_at
from tests.support.processes import kill_group
from tests.support.small_farm import SmallFarm
from tests.support.waiting import wait_for, wait_for_stage


class Monitor:
    """What Flower knows: the state of each message, from the workers' events."""

    def __init__(self, supervisor: SmallFarm) -> None:
        app = make_app(supervisor.settings)
        self.state: State = app.events.State()
        self.receiver = app.events.Receiver(
            app.connection_for_read(), handlers={"*": self.state.event}
        )

    def watch(self) -> None:
        self.receiver.capture(limit=None, timeout=None, wakeup=False)

    def states(self, job: Job) -> dict[str, str]:
        """The state of each message of a job by its name, for example `c0000-a1`."""
        return {
            task_id.removeprefix(f"{job.id}-"): task.state
            for task_id, task in list(self.state.tasks.items())
            if task_id.startswith(job.id)
        }

    def wait_until_revoked(self, job: Job, message: str) -> None:
        wait_for(lambda: self.states(job).get(message) == "REVOKED")


@pytest.fixture
def monitor(supervisor: SmallFarm) -> Iterator[Monitor]:
    monitor = Monitor(supervisor)
    thread = threading.Thread(target=monitor.watch)
    thread.start()
    # Events are not kept: those before the receiver has subscribed are missed.
    wait_for(lambda: monitor.state.workers)
    yield monitor
    monitor.receiver.should_stop = True
    thread.join()
    monitor.receiver.connection.release()


@contextmanager
def gpu_worker_down(supervisor: SmallFarm) -> Iterator[None]:
    """No worker of the gpu queue until the block ends."""
    kill_group(supervisor.children["gpu"])
    try:
        yield
    finally:
        supervisor.restart_dead()


def pending_messages(farm: Farm, jobs: list[Job]) -> int:
    """Messages of jobs that are queued, or delivered and not acknowledged."""
    broker = require_redis(farm.context.registry)
    messages = broker.redis.hvals(broker.key(UNACKED))
    for key in QUEUE_KEYS.values():
        messages += broker.redis.lrange(broker.key(key), 0, -1)
    return sum(job.id in message for message in messages for job in jobs)


def scratch_folders(job: Job) -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"farm-{job.id}-*"))


def test_a_running_denoise_step_stops_and_leaves_nothing(
    farm: Farm, small: dict[str, Any], monitor: Monitor
) -> None:
    job = farm.submit({**small, **ENDLESS})
    wait_for_stage(job, "chunk_0_sampling_")
    assert scratch_folders(job)

    assert farm.cancel([job.id], by="a test") == {job.id: True}

    monitor.wait_until_revoked(job, "c0000-a1")
    status = job.status()
    assert (status.state, status.result.error.code) == ("cancelled", "E_CANCELLED")
    assert [event.stage for event in job.events()][-1] == "cancelled"
    assert scratch_folders(job) == []
    assert farm.context.registry.steps.committed(job.id, "generate-0000") is None
    assert monitor.states(job) == {
        "download-a1": "SUCCESS",
        "embed-a1": "SUCCESS",
        "c0000-a1": "REVOKED",
    }


def test_a_job_that_waits_behind_another_never_starts(
    farm: Farm, small: dict[str, Any], monitor: Monitor
) -> None:
    steps = farm.context.registry.steps
    with job_held_at("chunk_0_sampling_0", farm, small) as running:
        queued = farm.submit(small)
        wait_for(lambda: steps.committed(queued.id, "embed"))

        queued.cancel()

        assert queued.status().state == "cancelled"
        running.cancel()
    monitor.wait_until_revoked(queued, "c0000-a1")
    assert steps.committed(queued.id, "generate-0000") is None
    assert steps.current_step_id(queued.id) == "embed", "no worker leased its chunk"


def test_a_job_that_is_deleted_while_it_runs_leaves_nothing(
    farm: Farm, small: dict[str, Any], monitor: Monitor
) -> None:
    job = farm.submit({**small, **ENDLESS})
    wait_for_stage(job, "chunk_0_sampling_")

    farm.delete([job.id])

    monitor.wait_until_revoked(job, "c0000-a1")
    assert job.id not in farm.job_ids()
    assert list(farm.context.store.keys(keys.job(job.id))) == []
    assert not {job.id} & set(farm.context.registry.jobs.live())


def test_a_job_whose_worker_is_down_is_cancelled_at_once_and_for_good(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any], monitor: Monitor
) -> None:
    steps = farm.context.registry.steps
    with gpu_worker_down(supervisor):
        job = farm.submit(small)
        wait_for(lambda: steps.committed(job.id, "embed"))
        job.cancel()
        assert job.status().state == "cancelled"

    monitor.wait_until_revoked(job, "c0000-a1")
    assert job.status().state == "cancelled"
    assert steps.committed(job.id, "generate-0000") is None


def test_a_whole_batch_is_cancelled(farm: Farm, small: dict[str, Any], monitor: Monitor) -> None:
    jobs = [farm.submit({**small, **ENDLESS, "base_seed": seed}) for seed in range(6)]
    wait_for(lambda: any("_sampling_" in job.status().stage for job in jobs))
    assert pending_messages(farm, jobs)

    farm.cancel([job.id for job in jobs], by="a test")

    assert {job.status().state for job in jobs} == {"cancelled"}
    assert not {job.id for job in jobs} & set(farm.context.registry.jobs.live())
    wait_for(lambda: pending_messages(farm, jobs) == 0)
    wait_for(lambda: all("REVOKED" in monitor.states(job).values() for job in jobs))
    states = {state for job in jobs for state in monitor.states(job).values()}
    assert not {"PENDING", "STARTED", "RECEIVED", "FAILURE"} & states
    assert [path for job in jobs for path in scratch_folders(job)] == []
    assert farm.submit({**small, **ONE_CHUNK}).result().status == "success"


def test_a_playlist_that_a_dead_canceller_left_open_is_closed_by_the_reaper(
    farm: Farm, small: dict[str, Any], monitor: Monitor
) -> None:
    registry = farm.context.registry
    with job_held_at("chunk_1_sampling_50", farm, small) as job:
        key = keys.playlist(job.id)

        registry.jobs.cancel(job.id, by="a client that dies right after")

        wait_for(lambda: farm.context.store.get(key).endswith(b"#EXT-X-ENDLIST\n"))
        wait_for(lambda: job.id not in registry.jobs.live())
    monitor.wait_until_revoked(job, "c0001-a1")
    assert farm.context.store.get(key).count(b"ENDLIST") == 1
