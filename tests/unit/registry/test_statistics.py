"""Statistics of the whole farm: one body of tests over a backend in memory and a real broker."""

from __future__ import annotations

import pytest

from farm.errors import DownloadFailed
from farm.estimate import Pace
from farm.job import Result
from farm.registry import Registry, statistics
from farm.registry.statistics import Statistics, read_statistics
from farm.registry.status_record import queued
from farm.registry.steps import EstimateUpdate
from farm.registry.workers import ALIVE_S
from tests.support.backends import pass_time
from tests.support.jobs import REQUEST
from tests.support.steps import acquire, commit


def read(registry: Registry) -> Statistics:
    return read_statistics(registry, lease_s=15)


def embed(registry: Registry, job_id: str, seconds: float) -> None:
    """A job whose speech is embedded, with that many GPU seconds remaining."""
    registry.entries.add(job_id, REQUEST)
    lease = acquire(registry, "embed", job_id=job_id)
    commit(registry, lease, estimate=EstimateUpdate(seconds))


def generate(registry: Registry, estimate: EstimateUpdate) -> None:
    commit(registry, acquire(registry, "generate-0000"), estimate=estimate)


def test_an_empty_farm_has_empty_statistics(registry):
    now = read(registry)
    assert (now.live, now.orphaned, now.runnable, now.unknown_length) == (0, 0, 0, 0)
    assert (now.remaining_gpu_s, now.wait_s) == (0, 0)
    assert (now.running, now.workers, now.ended) == ({}, {}, {})


def test_a_new_job_is_live_and_of_unknown_length(registry):
    registry.entries.add("a", REQUEST)
    now = read(registry)
    assert (now.live, now.unknown_length, now.runnable) == (1, 1, 1)


# Steps


def test_a_step_runs_while_its_lease_lasts(registry):
    registry.entries.add("a", REQUEST)
    acquire(registry, "generate-0003", lease_s=30)
    assert read(registry).running == {"generate": 1}
    pass_time(registry, 60)
    assert read(registry).running == {}


def test_a_step_that_is_leased_for_longer_than_the_readers_setting_runs_too(registry):
    registry.entries.add("a", REQUEST)
    acquire(registry, "embed", lease_s=45)
    assert read(registry).running == {"embed": 1}


def test_a_dispatched_step_does_not_run(registry):
    registry.entries.add("a", REQUEST)
    registry.steps.claim_dispatch("a", "download")
    assert (read(registry).running, read(registry).orphaned) == ({}, 0)


def test_a_step_that_pauses_before_its_retry_does_not_run(registry):
    registry.entries.add("a", REQUEST)
    registry.steps.release(acquire(registry, "embed"), retry_after_s=5)
    assert read(registry).running == {}


def test_a_job_whose_step_is_not_covered_is_orphaned(registry):
    registry.entries.add("a", REQUEST)
    registry.steps.release(acquire(registry, "embed"))
    assert read(registry).orphaned == 1


# Estimates


def test_the_remaining_seconds_of_all_jobs_add_up(registry):
    embed(registry, "a", 100)
    embed(registry, "b", 20)
    assert read(registry).remaining_gpu_s == 120


def test_a_job_without_remaining_chunks_is_not_runnable(registry):
    embed(registry, "a", 100)
    generate(registry, EstimateUpdate(0.0))
    now = read(registry)
    assert (now.live, now.runnable, now.remaining_gpu_s) == (1, 0, 0)


def test_the_speed_of_the_last_chunk_corrects_the_estimate(registry):
    embed(registry, "a", 100)
    generate(registry, EstimateUpdate(remaining_gpu_s=50.0, pace=Pace(0.1)))
    assert read(registry).remaining_gpu_s == pytest.approx(5)


def test_a_job_of_unknown_length_counts_as_much_as_the_others_on_average(registry):
    embed(registry, "a", 100)
    embed(registry, "b", 20)
    registry.entries.add("c", REQUEST)
    now = read(registry)
    assert (now.unknown_length, now.runnable, now.remaining_gpu_s) == (1, 3, 180)


def test_jobs_beyond_the_limit_count_as_much_as_the_others_on_average(registry, monkeypatch):
    monkeypatch.setattr(statistics, "MAX_JOBS", 2)
    for job_id in "abcd":
        embed(registry, job_id, 10)
    assert read(registry).remaining_gpu_s == 40


def test_a_job_without_remaining_chunks_does_not_lower_the_average(registry):
    embed(registry, "a", 100)
    embed(registry, "b", 0)
    assert read(registry).remaining_gpu_s == 100


@pytest.mark.parametrize("gpus", [0, 1])
def test_the_wait_is_estimated_for_at_least_one_gpu(registry, gpus):
    embed(registry, "a", 100)
    embed(registry, "b", 20)
    for number in range(gpus):
        registry.workers.heartbeat(f"gpu here {number}")
    assert read(registry).wait_s == 120


def test_gpus_beyond_the_number_of_jobs_do_not_shorten_the_wait(registry):
    for number in range(8):
        registry.workers.heartbeat(f"gpu here {number}")
    embed(registry, "a", 100)
    assert read(registry).wait_s == 100
    embed(registry, "b", 20)
    assert read(registry).wait_s == 60


def test_an_ended_job_has_nothing_remaining_whatever_is_committed_later(registry):
    embed(registry, "a", 100)
    lease = acquire(registry, "generate-0000")
    registry.jobs.cancel("a", by="a test")
    assert read(registry).runnable == 0
    commit(registry, lease, estimate=EstimateUpdate(50.0))
    assert read(registry).runnable == 0


def test_a_forgotten_job_has_nothing_remaining(registry):
    embed(registry, "a", 100)
    registry.entries.forget("a", ["embed"])
    assert read(registry).runnable == 0


# Workers


def test_workers_are_counted_by_queue_for_a_while_after_each_heartbeat(registry):
    registry.workers.heartbeat("gpu here 1")
    registry.workers.heartbeat("gpu here 1")
    registry.workers.heartbeat("cpu here 2")
    assert read(registry).workers == {"gpu": 1, "cpu": 1}
    pass_time(registry, 2 * ALIVE_S)
    assert read(registry).workers == {}


def test_a_worker_that_has_shut_down_is_not_counted(registry):
    registry.workers.heartbeat("gpu here 1")
    registry.workers.remove("gpu here 1")
    assert read(registry).workers == {}


def test_workers_that_were_silent_for_long_are_removed(registry):
    registry.workers.heartbeat("gpu here 1")
    pass_time(registry, 100)
    registry.workers.heartbeat("gpu here 2")
    registry.workers.remove_silent(silent_s=50)
    assert read(registry).workers == {"gpu": 1}


# Ended jobs


def test_each_job_is_counted_once_by_its_end_and_error_code(registry):
    for job_id in "abcd":
        registry.entries.add(job_id, REQUEST)
    for job_id in "aabb":
        registry.jobs.end(job_id, "success", Result(job_id=job_id, status="success"))
    for _ in range(2):
        registry.jobs.fail("c", DownloadFailed("gone"), at_stage="download")
    registry.jobs.cancel("d", by="a test")
    assert read(registry).ended == {
        ("success", ""): 2,
        ("error", "E_DOWNLOAD_FAILED"): 1,
        ("cancelled", "E_CANCELLED"): 1,
    }


def test_a_job_that_is_restored_as_ended_is_not_counted(registry):
    ended = queued("a", 1.0).model_copy(update={"state": "success", "stage": "completed"})
    registry.entries.restore(ended, REQUEST)
    assert (read(registry).ended, read(registry).runnable) == ({}, 0)
