"""What the book says of the whole farm: one body of tests over a ledger in memory and one in a real broker."""

from __future__ import annotations

import time

import pytest

from farm.errors import DownloadFailed
from farm.job import JobRequest, Result
from farm.registry import Lease, Registry, open_registry, statistics
from farm.registry.jobs import queued
from farm.registry.steps import EstimateUpdate
from farm.registry.statistics import Statistics

REQUEST = JobRequest(
    prompt="x", cond_video="https://example.org/face.png", cond_audio={"person1": "https://example.org/voice.wav"}
)


@pytest.fixture(params=["memory", "broker"])
def registry(request: pytest.FixtureRequest) -> Registry:
    return open_registry("memory://" if request.param == "memory" else request.getfixturevalue("broker"))


def look(registry: Registry) -> Statistics:
    return statistics.statistics(registry, lease_s=15)


def take(registry: Registry, job_id: str, step_id: str, *, lease_s: float = 15) -> Lease:
    lease = registry.steps.acquire(job_id, step_id, lease_s=lease_s, max_attempts=9)
    assert lease
    return lease


def hear(registry: Registry, job_id: str, seconds: float) -> None:
    """A job whose sound is embedded, with seconds of a GPU ahead."""
    registry.jobs.add(job_id, REQUEST)
    registry.steps.commit(take(registry, job_id, "embed"), {}, EstimateUpdate(seconds))


def test_an_empty_farm_has_nothing_to_tell(registry):
    now = look(registry)
    assert (now.live, now.idle, now.runnable, now.unheard, now.remaining_gpu_s, now.wait_s) == (0, 0, 0, 0, 0, 0)
    assert (now.running, now.workers, now.ended) == ({}, {}, {})


def test_a_new_job_is_live_and_unheard(registry):
    registry.jobs.add("a", REQUEST)
    now = look(registry)
    assert (now.live, now.unheard, now.runnable) == (1, 1, 1)


def test_a_step_runs_while_its_lease_lasts(registry):
    registry.jobs.add("a", REQUEST)
    take(registry, "a", "generate-0003", lease_s=0.2)
    assert look(registry).running == {"generate": 1}
    time.sleep(0.3)
    assert look(registry).running == {}


def test_a_step_that_another_setting_leased_for_longer_runs_too(registry):
    registry.jobs.add("a", REQUEST)
    take(registry, "a", "embed", lease_s=45)
    assert look(registry).running == {"embed": 1}


def test_a_step_whose_message_waits_does_not_run(registry):
    registry.jobs.add("a", REQUEST)
    registry.steps.claim_dispatch("a", "download", window_s=3600)
    assert (look(registry).running, look(registry).idle) == ({}, 0)


def test_a_job_that_nobody_cares_for_is_idle(registry):
    registry.jobs.add("a", REQUEST)
    registry.steps.release(take(registry, "a", "embed"), retry_after_s=0)
    assert look(registry).idle == 1


def test_chunks_ahead_are_those_of_all_jobs(registry):
    hear(registry, "a", 100)
    hear(registry, "b", 20)
    assert look(registry).remaining_gpu_s == 120


def test_a_job_without_chunks_ahead_is_not_runnable(registry):
    hear(registry, "a", 100)
    registry.steps.commit(take(registry, "a", "generate-0000"), {}, EstimateUpdate(0.0))
    now = look(registry)
    assert (now.live, now.runnable, now.remaining_gpu_s) == (1, 0, 0)


def test_the_last_chunks_pace_corrects_the_forecast(registry):
    hear(registry, "a", 100)
    registry.steps.commit(take(registry, "a", "generate-0000"), {}, EstimateUpdate(remaining_gpu_s=50.0, speed_ratio=0.1))
    assert look(registry).remaining_gpu_s == pytest.approx(5)


def test_an_unheard_job_counts_as_the_others_on_average(registry):
    hear(registry, "a", 100)
    hear(registry, "b", 20)
    registry.jobs.add("c", REQUEST)
    now = look(registry)
    assert (now.unheard, now.runnable, now.remaining_gpu_s) == (1, 3, 180)


def test_of_very_many_jobs_the_rest_counts_as_those_on_average(registry, monkeypatch):
    monkeypatch.setattr(statistics, "MOST_JOBS", 2)
    for job_id in "abcd":
        hear(registry, job_id, 10)
    assert look(registry).remaining_gpu_s == 40


@pytest.mark.parametrize("gpus", [0, 1])
def test_the_wait_is_that_of_one_gpu_at_least(registry, gpus):
    hear(registry, "a", 100)
    hear(registry, "b", 20)
    for number in range(gpus):
        registry.workers.heartbeat(f"gpu here {number}")
    assert look(registry).wait_s == 120


def test_gpus_share_the_jobs_but_no_job_is_shared(registry):
    for number in range(8):
        registry.workers.heartbeat(f"gpu here {number}")
    hear(registry, "a", 100)
    assert look(registry).wait_s == 100
    hear(registry, "b", 20)
    assert look(registry).wait_s == 60


def test_a_job_that_ended_has_nothing_ahead_and_never_will(registry):
    hear(registry, "a", 100)
    lease = take(registry, "a", "generate-0000")
    registry.jobs.cancel("a", by="a test")
    assert look(registry).runnable == 0
    registry.steps.commit(lease, {}, EstimateUpdate(50.0))
    assert look(registry).runnable == 0


def test_workers_are_counted_by_queue_while_they_say_that_they_are_there(registry, monkeypatch):
    monkeypatch.setattr(statistics, "PRESENT_S", 0.2)
    registry.workers.heartbeat("gpu here 1")
    registry.workers.heartbeat("gpu here 1")
    registry.workers.heartbeat("cpu here 2")
    assert look(registry).workers == {"gpu": 1, "cpu": 1}
    time.sleep(0.3)
    assert look(registry).workers == {}


def test_a_worker_that_takes_its_leave_is_not_there(registry):
    registry.workers.heartbeat("gpu here 1")
    registry.workers.remove("gpu here 1")
    assert look(registry).workers == {}


def test_workers_that_were_silent_for_long_are_forgotten(registry):
    registry.workers.heartbeat("gpu here 1")
    time.sleep(0.1)
    registry.workers.heartbeat("gpu here 2")
    registry.workers.remove_silent(silent_s=0.05)
    assert look(registry).workers == {"gpu": 1}


def test_each_end_is_counted_once_by_outcome_and_code(registry):
    for job_id in "abcd":
        registry.jobs.add(job_id, REQUEST)
    for job_id in "ab":
        registry.jobs.end(job_id, "success", Result(job_id=job_id, status="success"))
        registry.jobs.end(job_id, "success", Result(job_id=job_id, status="success"))
    registry.jobs.fail("c", DownloadFailed("gone"), at_stage="download")
    registry.jobs.cancel("d", by="a test")
    registry.jobs.fail("c", DownloadFailed("gone"), at_stage="download")
    assert look(registry).ended == {
        ("success", ""): 2,
        ("error", "E_DOWNLOAD_FAILED"): 1,
        ("cancelled", "E_CANCELLED"): 1,
    }


def test_a_job_that_is_entered_again_as_ended_is_not_counted(registry):
    ended = queued("a", 1.0).model_copy(update={"state": "success", "stage": "completed"})
    registry.jobs.restore(ended, REQUEST)
    assert (look(registry).ended, look(registry).runnable) == ({}, 0)


def test_a_forgotten_job_leaves_nothing_ahead(registry):
    hear(registry, "a", 100)
    registry.jobs.forget("a", ["embed"])
    assert look(registry).runnable == 0


def test_a_job_whose_chunks_are_made_does_not_make_the_others_look_shorter(registry):
    hear(registry, "a", 100)
    hear(registry, "b", 0)
    assert look(registry).remaining_gpu_s == 100


def test_a_step_that_pauses_before_it_is_tried_again_does_not_run(registry):
    registry.jobs.add("a", REQUEST)
    registry.steps.release(take(registry, "a", "embed"), retry_after_s=5)
    assert look(registry).running == {}
