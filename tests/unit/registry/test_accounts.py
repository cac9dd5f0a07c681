"""Quotas of callers: taken with a job's acceptance, given back with its end, never twice."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from farm.errors import DownloadFailed, FarmError, QuotaExceeded
from farm.estimate import Pace
from farm.job import Artifact, Result
from farm.registry import Registry, open_registry
from farm.registry.accounts import DAY_S, Demand, Quota
from farm.registry.keys import account_key, uploads_of
from farm.registry.status_record import queued
from farm.registry.steps import EstimateUpdate
from tests.support.backends import ClockBackend, death_at_next_write
from tests.support.jobs import REQUEST, job_request
from tests.support.outputs import committed, output_of
from tests.support.steps import acquire
from tests.support.threads import race

TWO_JOBS = Quota(live_jobs=2)
GPU_S = Quota(gpu_s_per_day=1000)
BYTES = Quota(stored_bytes=1000, uploads_kept_s=DAY_S)


def add(registry: Registry, job_id: str, quota: Quota, *, caller: str = "anna", **demand: Any):
    return registry.entries.add(
        job_id, REQUEST, caller=caller, demand=Demand(**demand), quota=quota
    )


def refusal(registry: Registry, quota: Quota, **demand: Any) -> QuotaExceeded:
    """Why one more job is refused; nothing is left of it."""
    with pytest.raises(QuotaExceeded) as caught:
        add(registry, "refused", quota, **demand)
    assert not registry.jobs.exists("refused")
    return caught.value


def finish(registry: Registry, job_id: str, *, size: int = 0) -> None:
    video = Artifact(type="video", url="file:///video.mp4", mime="video/mp4", bytes=size)
    result = Result(job_id=job_id, status="success", artifacts=(video,))
    assert registry.jobs.end(job_id, "success", result)


def commit(registry: Registry, step_id: str, remaining_gpu_s: float) -> None:
    lease = acquire(registry, step_id)
    envelope = committed(output_of(step_id), attempt_id=lease.attempt_id)
    estimate = EstimateUpdate(remaining_gpu_s=remaining_gpu_s)
    assert registry.commit(lease, envelope, estimate, caller="anna")


@pytest.fixture
def clock() -> ClockBackend:
    return ClockBackend()


# Jobs that have not ended


def test_a_job_beyond_the_quota_is_refused_with_what_the_caller_has(registry):
    add(registry, "a", TWO_JOBS)
    add(registry, "b", TWO_JOBS)
    error = refusal(registry, TWO_JOBS)
    assert (error.code, error.retryable) == ("E_QUOTA", True)
    assert error.message == (
        "caller anna: 2 jobs have not ended; allowed: 2 (FARM_MAX_LIVE_JOBS); "
        "try again when one of them has ended"
    )
    with pytest.raises(QuotaExceeded):
        registry.entries.check_quota("anna", Demand(), TWO_JOBS)


def test_another_caller_has_a_quota_of_its_own(registry):
    for caller in ("anna", "bob"):
        for number in range(2):
            add(registry, f"{caller}{number}", TWO_JOBS, caller=caller)
    assert len(registry.jobs.live()) == 4


@pytest.mark.parametrize("end", ["finished", "failed", "cancelled", "forgotten"])
def test_a_job_that_ends_gives_its_slot_back(registry, end):
    add(registry, "a", TWO_JOBS)
    add(registry, "b", TWO_JOBS)
    match end:
        case "finished":
            finish(registry, "a")
        case "failed":
            registry.jobs.fail("a", DownloadFailed("404"), at_stage="downloads_started")
        case "cancelled":
            registry.jobs.cancel("a", by="the caller")
        case "forgotten":
            registry.entries.forget("a", [])
    add(registry, "c", TWO_JOBS)
    assert refusal(registry, TWO_JOBS)


def test_of_many_submissions_at_once_no_more_pass_than_there_are_slots(registry):
    numbers = count()

    def submit() -> bool:
        try:
            add(registry, f"job-{next(numbers)}", Quota(live_jobs=3))
        except QuotaExceeded:
            return False
        return True

    assert sum(race(submit)) == 3
    assert len(list(registry.jobs.newest("anna"))) == 3


def test_a_job_that_is_entered_between_the_check_and_the_write_of_another_is_counted(
    registry, monkeypatch
):
    add(registry, "before", Quota(live_jobs=1))
    registry.jobs.cancel("before", by="the caller")
    registry.jobs.close("before")
    swap = registry.backend.swap

    def write_after_another(*arguments: Any) -> list[str | None] | None:
        monkeypatch.undo()
        add(registry, "first", Quota(live_jobs=1))
        return swap(*arguments)

    monkeypatch.setattr(registry.backend, "swap", write_after_another)
    assert refusal(registry, Quota(live_jobs=1))
    assert registry.jobs.live() == ["first"]


def test_of_many_processes_at_once_no_more_pass_than_there_are_slots(broker):
    registries = [open_registry(broker) for _ in range(8)]
    numbers = iter(range(8))

    def submit() -> bool:
        number = next(numbers)
        try:
            add(registries[number], f"job-{number}", Quota(live_jobs=3, gpu_s_per_day=1e6))
        except QuotaExceeded:
            return False
        return True

    assert sum(race(submit)) == 3
    assert len(registries[0].jobs.live()) == 3


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after it"])
def test_a_process_that_dies_while_it_submits_leaks_no_slot(registry, after):
    with death_at_next_write(registry.backend, after=after):
        add(registry, "a", TWO_JOBS)
    assert registry.jobs.exists("a") == after
    if after:
        registry.jobs.cancel("a", by="the caller")
    for job_id in ("b", "c"):
        add(registry, job_id, TWO_JOBS)
    assert refusal(registry, TWO_JOBS)


def test_the_same_idempotency_key_takes_one_slot(registry):
    keyed = job_request(idempotency_key="key")
    for job_id in ("a", "b", "c"):
        assert registry.entries.add(job_id, keyed, caller="anna", quota=Quota(live_jobs=1)) == "a"


def test_no_quota_refuses_a_job_that_is_restored(registry):
    add(registry, "a", Quota(live_jobs=1))
    assert registry.entries.restore(queued("b", 1000, "anna"), REQUEST)
    assert "2 jobs have not ended" in refusal(registry, Quota(live_jobs=1)).message


# GPU seconds


def test_estimated_gpu_seconds_of_live_jobs_count(registry):
    add(registry, "a", GPU_S, gpu_s=600)
    error = refusal(registry, GPU_S, gpu_s=401)
    assert error.message == (
        "caller anna: 0 GPU seconds are used today, 600 estimated for jobs that have not ended, "
        "401 for this one; allowed: 1,000 a day (FARM_MAX_GPU_S_PER_DAY); "
        "try again when others have ended, or after 00:00 UTC"
    )
    assert 0 < error.retry_after_s <= DAY_S
    add(registry, "b", GPU_S, gpu_s=400)


def test_a_committed_step_and_the_end_of_a_job_give_gpu_seconds_back(registry):
    add(registry, "a", GPU_S, gpu_s=1000)
    refusal(registry, GPU_S, gpu_s=500)
    commit(registry, "embed", 500)
    add(registry, "b", GPU_S, gpu_s=500)
    registry.jobs.cancel("a", by="the caller")
    add(registry, "c", GPU_S, gpu_s=500)
    commit(registry, "generate-0000", 400)  # of a late worker
    refusal(registry, GPU_S, gpu_s=1)


def test_estimates_count_at_the_pace_of_the_farm_with_all_cards_of_a_worker(registry):
    add(registry, "a", GPU_S)
    estimate = EstimateUpdate(remaining_gpu_s=100, pace=Pace(2.0, cards=4))
    lease = acquire(registry, "embed")
    envelope = committed(output_of("embed"), attempt_id=lease.attempt_id)
    assert registry.commit(lease, envelope, estimate, caller="anna")
    assert "800 estimated for jobs" in refusal(registry, GPU_S, gpu_s=26).message
    add(registry, "b", GPU_S, gpu_s=25)


def test_a_farm_without_a_gpu_refuses_in_seconds_of_its_cpu(registry):
    add(registry, "a", GPU_S)
    lease = acquire(registry, "embed")
    envelope = committed(output_of("embed"), attempt_id=lease.attempt_id)
    estimate = EstimateUpdate(remaining_gpu_s=0, pace=Pace(1.0, on_cpu=True))
    assert registry.commit(lease, envelope, estimate, caller="anna")
    assert "0 seconds on the CPU are used today" in refusal(registry, GPU_S, gpu_s=1001).message


def test_used_gpu_seconds_count_until_the_end_of_the_day(clock):
    registry = Registry(clock)
    clock.advance(DAY_S - clock.now() % DAY_S)
    registry.accounts.charge("anna", 700)
    registry.accounts.charge("anna", 200)
    assert "900 GPU seconds are used today" in refusal(registry, GPU_S, gpu_s=101).message
    add(registry, "a", GPU_S, gpu_s=100)
    finish(registry, "a")
    clock.advance(DAY_S)
    add(registry, "b", GPU_S, gpu_s=1000)


def test_concurrent_uses_of_gpus_are_all_counted(registry):
    race(lambda: registry.accounts.charge("anna", 10))
    assert registry.accounts.used_gpu_s("anna") == 80


def test_a_use_of_a_gpu_and_a_submission_do_not_meet(registry):
    add(registry, "a", TWO_JOBS)
    account = registry.backend.get_all([account_key("anna")])
    registry.accounts.charge("anna", 10)
    assert registry.backend.get_all([account_key("anna")]) == account


def test_a_job_that_alone_needs_more_than_the_quota_is_refused_for_good(registry):
    error = refusal(registry, GPU_S, gpu_s=1001)
    assert (error.retryable, error.retry_after_s) == (False, None)
    assert error.message.endswith("limit it by max_frame_num if its voice is of unknown length")


# Bytes


def test_uploads_and_results_count_once_each(registry):
    add(registry, "a", BYTES, uploads={"uploads/face": 300})
    add(registry, "b", BYTES, uploads={"uploads/face": 300, "uploads/voice": 100})
    finish(registry, "a", size=500)
    error = refusal(registry, BYTES, uploads={"uploads/face": 300, "uploads/other": 101})
    assert error.message.startswith(
        "caller anna: 1,001 bytes with the uploads of this job; allowed: 1,000 "
    )
    add(registry, "c", BYTES, uploads={"uploads/other": 100})


def test_expired_uploads_and_forgotten_results_count_no_more(clock):
    registry = Registry(clock)
    add(registry, "a", BYTES, uploads={"uploads/face": 400})
    finish(registry, "a", size=600)
    refusal(registry, BYTES, uploads={"uploads/voice": 1})
    clock.advance(DAY_S)
    add(registry, "b", BYTES, uploads={"uploads/voice": 400})
    assert clock.members_below(uploads_of("anna"), clock.now()) == ["uploads/voice 400"]
    refusal(registry, BYTES, uploads={"uploads/other": 1})
    registry.entries.forget("a", [])
    add(registry, "c", BYTES, uploads={"uploads/other": 600})


# Accounts


def test_an_account_is_closed_with_the_last_job_once_its_day_is_over(clock):
    registry = Registry(clock)
    for job_id in ("a", "b"):
        add(registry, job_id, BYTES, uploads={"uploads/face": 1})
        finish(registry, job_id)
    registry.accounts.charge("anna", 5)
    registry.entries.forget("a", [])
    clock.advance(DAY_S)
    assert account_key("anna") in clock.texts
    registry.entries.forget("b", [])
    assert clock.texts == {}
    assert not any(clock.indices[index] for index in clock.indices if index != "ended")


def test_an_account_stays_while_its_gpu_seconds_count(registry):
    add(registry, "a", GPU_S)
    registry.accounts.charge("anna", 999)
    registry.jobs.cancel("a", by="the caller")
    registry.entries.forget("a", [])
    refusal(registry, GPU_S, gpu_s=2)


def test_an_unreadable_account_is_an_error_that_names_the_caller(registry):
    registry.backend.compare_and_set(account_key("anna"), None, "no JSON")
    with pytest.raises(FarmError, match="caller anna: the account cannot be read"):
        add(registry, "a", TWO_JOBS)


# Lists


def test_the_jobs_of_one_caller_are_listed(registry):
    for job_id, caller in (("a", "anna"), ("b", "bob"), ("c", "anna")):
        add(registry, job_id, TWO_JOBS, caller=caller)
    assert {status.job_id for status in registry.jobs.newest("anna")} == {"a", "c"}
    assert len(list(registry.jobs.newest())) == 3
    assert registry.jobs.caller("b") == registry.jobs.status("b").caller == "bob"
