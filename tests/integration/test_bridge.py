"""A farm without a GPU of its own: bridges, and the real handler on the real SDK's loop.

Whatever is killed, paused or lost on the way, each chunk is committed once, and its frames are
those of the unbroken run.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from farm import Job
from farm.errors import WorkerLost
from farm.estimate import chunk_s
from farm.health import HealthFiles, folder_of_machine, worker_health
from farm.runpod.chunk import MAX_LOST
from tests.integration.conftest import SMALL
from tests.support.jobs import resolved
from tests.support.rented_farm import ENDPOINT, RentedFarm, rented_farm
from tests.support.runpod import Fault, RemoteJob
from tests.support.swift import Swift
from tests.support.waiting import wait_for, wait_for_stage

CHUNKS = 3
HELD = "chunk_1_sampling_50"
"""In the middle of the second of three chunks."""


@pytest.fixture(scope="module")
def rented(tmp_path_factory: pytest.TempPathFactory, swift: Swift) -> Iterator[RentedFarm]:
    with rented_farm(tmp_path_factory.mktemp("home"), swift) as farm:
        farm.start_handler()
        farm.start_handler()
        yield farm


@pytest.fixture(scope="module")
def film(voice: Path) -> dict[str, Any]:
    audio = {"person1": str(voice)}
    return {**SMALL, "cond_audio": audio, "max_frame_num": 21 + 16 * (CHUNKS - 1)}


@pytest.fixture(scope="module")
def unbroken(rented: RentedFarm, film: dict[str, Any]) -> list[str]:
    """The frames of a job to which nothing happened."""
    rented.start_bridge()
    job = rented.farm.submit(film)
    assert job.wait(timeout_s=300).state == "success"
    return rented.frames(job)


@dataclass
class Trial:
    """One job, and what the endpoint got to do for it."""

    rented: RentedFarm
    film: dict[str, Any]
    unbroken: list[str]
    earlier: int
    """Remote jobs before."""

    def submit(self, **fields: Any) -> Job:
        return self.rented.farm.submit({**self.film, **fields})

    @property
    def remote(self) -> list[RemoteJob]:
        return self.rented.remote_jobs[self.earlier :]

    def held_remote(self) -> RemoteJob:
        """The remote job that waits at HELD."""

        def held() -> RemoteJob | None:
            waiting = (each for each in self.remote if each.status == "IN_PROGRESS")
            return next((each for each in waiting if _is_held(each)), None)

        return wait_for(held)

    def assert_made(self, job: Job, *, attempts: list[int] | None = None) -> None:
        """The job succeeds with the frames of the unbroken run, after so many attempts a chunk."""
        assert job.wait(timeout_s=300).state == "success"
        assert self.rented.frames(job) == self.unbroken
        assert self.rented.attempts(job) == (attempts or [1] * CHUNKS)


def _is_held(remote: RemoteJob) -> bool:
    return any(each["stage"] == HELD for each in remote.progress if isinstance(each, dict))


@pytest.fixture
def trial(rented: RentedFarm, film: dict[str, Any], unbroken: list[str]) -> Iterator[Trial]:
    rented.replace_bridges()
    yield Trial(rented, film, unbroken, len(rented.remote_jobs))
    rented.runpod.faults.clear()


# Nothing happens


def test_a_farm_without_a_gpu_makes_its_videos_on_an_endpoint(trial, unbroken):
    jobs = [trial.submit() for _ in range(3)]
    for job in jobs:
        trial.assert_made(job)
    assert len(unbroken) == CHUNKS
    assert [each.status for each in trial.remote] == ["COMPLETED"] * 3 * CHUNKS
    assert [len(each.runs) for each in trial.remote] == [1] * 3 * CHUNKS


def test_a_bridge_that_takes_chunks_is_ready_and_alive(rented):
    rented.replace_bridges()
    wait_for(lambda: "overflow_opened" in rented.bridge_log())
    files = HealthFiles(folder_of_machine(rented.settings.folder) / "bridge")
    files.alive.unlink()
    files.set_ready(False)
    wait_for(lambda: worker_health(files.folder, "ready").good)


def test_the_slots_of_a_bridge_count_as_gpus(trial):
    workers = trial.rented.farm.context.registry.workers
    assert workers.count_alive()["gpu"] == trial.rented.settings.bridge_slots
    assert workers.count_own_gpus() == 0


def test_its_caller_sees_the_progress_of_a_remote_chunk(trial):
    with trial.rented.chunks_held_at(HELD):
        job = trial.submit()
        details = wait_for(lambda: job.status().stage == HELD and job.status().details)
    assert (details["chunk"], details["chunks"], details["step"]) == (1, CHUNKS, 1)
    trial.assert_made(job)


def test_no_log_has_a_signature(trial):
    trial.assert_made(trial.submit())
    logs = [path.read_text() for path in (trial.rented.settings.folder / "logs").iterdir()]
    assert [text for text in logs if "X-Amz-Signature" in text] == []


def test_an_order_on_the_wire_has_no_credentials(trial):
    trial.assert_made(trial.submit())
    settings = trial.rented.settings
    secrets = (settings.s3_secret_key, settings.runpod_api_key, settings.broker_url)
    sent = json.dumps([each.body for each in trial.remote])
    assert [each for each in secrets if each in sent] == []
    assert max(len(json.dumps(each.body)) for each in trial.remote) < 100_000


# A worker is lost, or its result


def test_a_worker_that_is_killed_in_a_chunk_costs_no_attempt(trial):
    with trial.rented.chunks_held_at(HELD):
        job = trial.submit()
        remote = trial.held_remote()
        trial.rented.handler(remote.worker).kill()
    trial.rented.start_handler()
    trial.assert_made(job)
    assert [len(each.runs) for each in trial.remote] == [1, 2, 1]


def test_a_worker_whose_pings_stop_is_followed_by_another_one(trial):
    with trial.rented.runpod.away("ping"), trial.rented.chunks_held_at(HELD):
        job = trial.submit()
        remote = trial.held_remote()
        wait_for(lambda: len(remote.runs) > 1)
    trial.assert_made(job)
    assert len(trial.remote) == CHUNKS


def test_a_result_that_never_arrives_changes_nothing(trial):
    trial.rented.runpod.faults.add("job-done", Fault(500, times=3))  # the SDK tries three times
    job = trial.submit()
    trial.assert_made(job)
    assert len(trial.remote) == CHUNKS


def test_a_result_that_arrives_twice_changes_nothing(trial):
    job = trial.submit()
    trial.assert_made(job)
    store = trial.rented.farm.context.store
    written_at = store.written_at(f"jobs/{job.id}/generate-0001/")
    remote = trial.remote[1]
    trial.rented.runpod.rerun(remote, ENDPOINT)
    wait_for(lambda: remote.status == "COMPLETED" and len(remote.posts) == 2)
    assert store.written_at(f"jobs/{job.id}/generate-0001/") == written_at
    assert trial.rented.frames(job) == trial.unbroken


def test_a_result_that_was_forgotten_is_in_the_store(trial):
    with trial.rented.runpod.away("status"):
        job = trial.submit()
        wait_for(lambda: trial.remote and trial.remote[0].status == "COMPLETED")
        trial.rented.runpod.forget(trial.remote[0], ENDPOINT)
    trial.assert_made(job)
    assert len(trial.remote) == CHUNKS


def test_a_job_that_was_forgotten_while_it_ran_is_a_lost_attempt(trial):
    with trial.rented.chunks_held_at(HELD) as release:
        job = trial.submit()
        trial.rented.runpod.forget(trial.held_remote(), ENDPOINT)
        wait_for(lambda: len(trial.remote) == 3)
        release()
    trial.assert_made(job, attempts=[1, 2, 1])


def test_a_worker_that_cannot_ask_for_jobs_gets_them_later(trial):
    trial.rented.runpod.faults.add("job-take", Fault(500, times=20))
    trial.assert_made(trial.submit())


# Runpod is away


@pytest.mark.parametrize(
    ("operation", "event"), [("run", "bridge_paused"), ("status", "remote_unknown")]
)
def test_runpod_may_be_away(trial, operation, event):
    with trial.rented.runpod.away(operation):
        job = trial.submit()
        wait_for(lambda: event in trial.rented.bridge_log())
    trial.assert_made(job)
    assert len(trial.remote) == CHUNKS


def test_a_bridge_pauses_as_long_as_it_is_asked_to(trial):
    fault = Fault(429, times=2, headers={"Retry-After": "1"})
    trial.rented.runpod.faults.add("run", fault)
    trial.assert_made(trial.submit())
    assert len(trial.remote) == CHUNKS


def test_the_whole_of_runpod_may_be_down(trial):
    with trial.rented.chunks_held_at(HELD) as release:
        job = trial.submit()
        trial.held_remote()
        with trial.rented.runpod.down():
            release()
            wait_for(lambda: "remote_unknown" in trial.rented.bridge_log())
    trial.assert_made(job)


# A bridge is lost


def test_the_next_bridge_goes_on_with_what_runs(trial):
    with trial.rented.chunks_held_at(HELD):
        job = trial.submit()
        trial.held_remote()
        trial.rented.bridges[-1].kill()
        trial.rented.start_bridge()
    trial.assert_made(job)
    assert [len(each.runs) for each in trial.remote] == [1] * CHUNKS


def test_the_next_bridge_goes_on_with_what_is_queued(trial):
    with trial.rented.handlers_paused():
        job = trial.submit()
        wait_for(lambda: "remote_submitted" in trial.rented.bridge_log())
        trial.rented.bridges[-1].kill()
        trial.rented.start_bridge()
        wait_for(lambda: "step_started" in trial.rented.bridge_log())
    trial.assert_made(job)
    assert len(trial.remote) == CHUNKS


def test_the_next_bridge_takes_the_answer_that_the_last_one_did_not_see(trial):
    with trial.rented.runpod.away("status"):
        job = trial.submit()
        wait_for(lambda: trial.remote and trial.remote[0].status == "COMPLETED")
        trial.rented.bridges[-1].kill()
    trial.rented.start_bridge()
    trial.assert_made(job)
    assert [len(each.runs) for each in trial.remote] == [1] * CHUNKS


def test_a_bridge_that_dies_while_it_submits_costs_no_attempt(trial):
    held = threading.Event()
    trial.rented.runpod.faults.add("run", Fault(held=held, takes_effect=True))
    job = trial.submit()
    wait_for(lambda: trial.rented.runpod.faults.calls["run"] > 0 and _is_submitting(job))
    trial.rented.bridges[-1].kill()
    held.set()
    trial.rented.start_bridge()
    trial.assert_made(job)


def _is_submitting(job: Job) -> bool:
    record = job.context.registry.backend.get_all([f"step:{job.id}:generate-0000"])[0]
    return '"remote":' in (record or "")


def test_a_bridge_that_drains_leaves_its_chunks_to_the_next_one(trial):
    with trial.rented.chunks_held_at(HELD):
        job = trial.submit()
        trial.held_remote()
        trial.rented.start_bridge()
        trial.rented.bridges[-2].terminate()
        assert trial.rented.bridges[-2].wait(timeout=60) == 0
    trial.assert_made(job)
    assert [len(each.runs) for each in trial.remote] == [1] * CHUNKS


def test_the_farms_own_gpus_take_over_from_a_bridge_that_is_gone_for_good(trial):
    with trial.rented.chunks_held_at(HELD):
        job = trial.submit()
        trial.held_remote()
        trial.rented.bridges[-1].terminate()
        trial.rented.bridges[-1].wait(timeout=60)
        with trial.rented.gpu_worker():
            trial.assert_made(job, attempts=[1, 2, 1])


def test_a_bridge_that_slept_past_its_lease_changes_nothing(trial):
    with trial.rented.chunks_held_at(HELD) as release:
        job = trial.submit()
        trial.held_remote()
        sleeper = trial.rented.bridges[-1]
        sleeper.send_signal(signal.SIGSTOP)
        trial.rented.start_bridge()
        wait_for(lambda: '"adopted": true' in trial.rented.bridge_log())
        sleeper.send_signal(signal.SIGCONT)
        release()
    trial.assert_made(job)
    assert [len(each.runs) for each in trial.remote] == [1] * CHUNKS


def test_two_bridges_share_the_work(trial):
    trial.rented.start_bridge()
    jobs = [trial.submit() for _ in range(4)]
    for job in jobs:
        trial.assert_made(job)
    assert len(trial.remote) == 4 * CHUNKS


# The store or the registry is away


def test_the_registry_may_be_away(trial):
    with trial.rented.chunks_held_at(HELD) as release:
        job = trial.submit()
        trial.held_remote()
        with trial.rented.broker_killed():
            wait_for(lambda: trial.rented.bridge_log().count("Trying again in") > 3)
            release()
    trial.assert_made(job)
    assert [len(each.runs) for each in trial.remote] == [1] * CHUNKS


def test_the_store_may_be_away(trial, swift):
    with trial.rented.chunks_held_at(HELD) as release:
        job = trial.submit()
        trial.held_remote()
        swift.kill()
        release()
        wait_for(lambda: "store_retry" in trial.rented.bridge_log() or trial.remote[1].ended)
        swift.start()
    assert job.wait(timeout_s=300).state == "success"
    assert trial.rented.frames(job) == trial.unbroken


# Cancelled


def test_a_cancelled_job_ends_its_remote_job(trial):
    with trial.rented.chunks_held_at(HELD):
        job = trial.submit()
        remote = trial.held_remote()
        assert job.cancel()
        wait_for(lambda: remote.status == "CANCELLED")
    registry = job.context.registry
    wait_for(lambda: not registry.remote.attempts())


def test_a_cancelled_job_ends_a_remote_job_that_has_not_begun(trial):
    with trial.rented.handlers_paused():
        job = trial.submit()
        remote = wait_for(lambda: trial.remote and trial.remote[0])
        assert job.cancel()
        wait_for(lambda: remote.status == "CANCELLED")


def test_a_job_that_was_cancelled_while_no_bridge_lived_ends_its_remote_job(trial):
    with trial.rented.chunks_held_at(HELD):
        job = trial.submit()
        remote = trial.held_remote()
        trial.rented.bridges[-1].kill()
        assert job.cancel()
        trial.rented.start_bridge()
        wait_for(lambda: remote.status == "CANCELLED")


# Only as far as it may


def test_a_job_that_must_stay_waits_for_a_gpu_of_the_farms_own(trial):
    job = trial.submit(placement="local")
    other = trial.submit()
    trial.assert_made(other)
    wait_for_stage(job, "embeddings_ok")
    assert job.status().stage == "embeddings_ok"
    with trial.rented.gpu_worker():
        trial.assert_made(job)
    assert len(trial.remote) == CHUNKS


def test_a_budget_that_is_used_up_in_the_middle_of_a_video_leaves_the_rest_to_the_farm(trial):
    # Given a budget that has room for the estimate of one chunk, but not after that chunk
    spent_s = trial.rented.farm.context.registry.spending.of(ENDPOINT).spent_s
    budget_s = spent_s + chunk_s(resolved(trial.film))
    trial.rented.replace_bridges(bridge_gpu_s_per_hour=budget_s)
    job = trial.submit()
    wait_for(lambda: "overflow_closed" in trial.rented.bridge_log())
    with trial.rented.gpu_worker():
        trial.assert_made(job)
    assert len(trial.remote) == 1
    spent_s = trial.rented.farm.context.registry.spending.of(ENDPOINT).spent_s
    pauses = trial.rented.bridge_log().count("bridge_paused")
    # A first chunk that took all of it may close the bridge before the second one is refused.
    assert pauses == 1 or (pauses == 0 and spent_s >= budget_s)


def test_a_chunk_that_ends_its_worker_ends_only_a_few(trial):
    """Two for each attempt: Runpod would go on for ever."""
    for worker in trial.rented.handlers:
        worker.kill()
    trial.rented.replace_bridges(max_attempts=1)
    job = trial.submit()
    killed = 0
    while not job.status().ended:
        worker = trial.rented.start_handler(DIE_IN="generate-0001")
        wait_for(lambda worker=worker: worker.process.poll() is not None or job.status().ended)
        killed += worker.process.poll() is not None
        worker.kill()
    with pytest.raises(WorkerLost):
        job.result()
    assert killed == MAX_LOST
    trial.rented.start_handler()
