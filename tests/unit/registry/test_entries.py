"""Jobs in the registry: entered once, repaired, restored, forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from farm.caller import LOCAL
from farm.errors import InvalidInput
from farm.job import Event, JobStatus, Result
from farm.registry import Registry
from farm.registry.keys import account_key, job_key, request_key
from farm.registry.status_record import queued
from tests.support.jobs import REQUEST, job_request
from tests.support.steps import acquire, complete
from tests.support.threads import race

SUCCESS = Result(job_id="a", status="success")
KEYED = job_request(idempotency_key="key")


def events(registry: Registry, job_id: str = "a") -> list[tuple[str, float]]:
    return [(event.stage, event.pct) for event in registry.jobs.events(job_id, wait_s=0.05)]


def report(registry: Registry, stage: str, pct: float, **details: Any) -> None:
    registry.jobs.report(Event(job_id="a", stage=stage, pct=pct, details=details))


# Entering


def test_a_job_is_entered_once(entered):
    report(entered, "downloads_ok", 8)
    assert entered.entries.add("a", job_request(prompt="another")) == "a"
    assert entered.jobs.request("a").prompt == REQUEST.prompt
    assert entered.jobs.status("a").stage == "downloads_ok"


def test_an_idempotency_key_belongs_to_the_first_job(registry):
    assert registry.entries.first_job(KEYED, "anna") is None
    assert registry.entries.add("a", KEYED, caller="anna") == "a"
    assert registry.entries.add("b", KEYED, caller="anna") == "a"
    assert registry.entries.first_job(KEYED, "anna") == "a"
    other = job_request(idempotency_key="other")
    assert registry.entries.add("b", other, caller="anna") == "b"
    assert len(list(registry.jobs.newest())) == 2


def test_an_idempotency_key_is_its_callers_own(registry):
    registry.entries.add("a", KEYED, caller="anna")
    another = job_request(idempotency_key="key", prompt="a man sings")
    assert registry.entries.first_job(another, "bob") is None
    assert registry.entries.add("b", another, caller="bob") == "b"
    assert registry.entries.first_job(KEYED, "anna") == "a"


def test_a_request_without_an_idempotency_key_is_always_another_job(registry):
    assert registry.entries.add("a", REQUEST) == "a"
    assert registry.entries.first_job(REQUEST, LOCAL) is None
    assert registry.entries.add("b", REQUEST) == "b"


def test_an_idempotency_key_of_another_request_is_refused_with_what_differs(registry):
    registry.entries.add("a", KEYED)
    other = job_request(idempotency_key="key", prompt="a man sings", sample_steps=5)
    differs = "prompt and sample_steps"
    with pytest.raises(
        InvalidInput,
        match=f"^idempotency_key: got 'key'; job a was submitted with it and another {differs};",
    ):
        registry.entries.add("b", other)
    assert not registry.jobs.exists("b")


def test_another_priority_is_no_other_request(registry):
    registry.entries.add("a", KEYED)
    urgent = job_request(idempotency_key="key", priority="high")
    assert registry.entries.add("b", urgent) == "a"


def test_of_concurrent_jobs_with_one_idempotency_key_one_is_entered(registry):
    job_ids = iter("abcdefgh")
    answers = race(lambda: registry.entries.add(next(job_ids), KEYED))
    assert len(set(answers)) == len(list(registry.jobs.newest())) == 1


def test_a_closed_job_that_is_entered_again_is_not_live(entered):
    entered.jobs.end("a", "success", SUCCESS)
    entered.jobs.close("a")
    assert entered.entries.add("a", REQUEST) == "a"
    assert entered.jobs.live() == []


# Restoring and forgetting


def test_an_ended_job_is_restored_as_it_was(registry):
    ended = JobStatus(
        job_id="a",
        state="success",
        stage="completed",
        pct=100,
        details={},
        created_at=1000,
        updated_at=2000,
        result=SUCCESS,
    )
    assert registry.entries.restore(ended, REQUEST)
    assert (registry.jobs.status("a"), registry.jobs.request("a")) == (ended, REQUEST)
    assert registry.jobs.live() == []
    assert [status.job_id for status in registry.jobs.newest()] == ["a"]
    assert events(registry) == [("completed", 100)]


def test_a_restored_job_with_a_pending_webhook_is_live(registry):
    ended = queued("a", 1000).model_copy(update={"state": "success", "stage": "completed"})
    registry.entries.restore(ended, REQUEST, webhook_pending=True)
    assert registry.jobs.live() == ["a"]


def test_a_live_job_is_restored_behind_its_last_step(registry):
    registry.entries.restore(queued("a", 1000), REQUEST, current_step_id="embed")
    assert registry.jobs.status("a") == queued("a", 1000)
    assert registry.steps.current_step_id("a") == "embed"
    assert registry.jobs.orphaned() == ["a"]


def test_a_known_job_is_not_restored(entered):
    report(entered, "downloads_ok", 8)
    assert not entered.entries.restore(queued("a", 1000), REQUEST, current_step_id="mux")
    assert entered.jobs.status("a").stage == "downloads_ok"
    assert entered.steps.current_step_id("a") is None


def test_a_repair_enters_what_is_lost_and_changes_nothing_else(entered):
    acquire(entered)
    for index in ("jobs", "remaining_gpu_s"):
        entered.backend.remove_member(index, "a")
    entered.backend.delete(request_key("a"))
    assert entered.entries.lost_parts("a", live=False) == ["request", "jobs", "remaining_gpu_s"]
    other = Registry(entered.backend)  # which has read nothing yet
    other.entries.repair("a", REQUEST, live=False)
    assert other.entries.lost_parts("a", live=False) == []
    assert (other.jobs.request("a"), other.jobs.orphaned()) == (REQUEST, [])


@pytest.mark.parametrize("live", [True, False])
def test_a_repaired_job_that_has_ended_is_live_only_if_its_end_is_pending(entered, live):
    entered.jobs.cancel("a", by="a test")
    entered.jobs.close("a")
    assert entered.entries.lost_parts("a", live=live) == (["live"] if live else [])
    entered.entries.repair("a", REQUEST, live=live)
    assert entered.jobs.live() == (["a"] if live else [])


def test_an_unknown_job_has_no_parts_and_is_not_repaired(registry):
    with pytest.raises(InvalidInput, match="no such job"):
        registry.entries.lost_parts("a", live=False)
    registry.entries.repair("a", REQUEST, live=True)
    assert (registry.jobs.exists("a"), registry.jobs.live()) == (False, [])


def test_a_forgotten_job_leaves_nothing(registry):
    registry.entries.add("a", KEYED)
    complete(registry, "mux")
    registry.jobs.end("a", "success", SUCCESS)
    registry.entries.forget("a", ["mux"])
    assert not registry.jobs.exists("a")
    assert (list(registry.jobs.newest()), registry.jobs.live()) == ([], [])
    assert registry.steps.committed("a", "mux") is None
    assert registry.backend.get_all([account_key(LOCAL)]) == [None]
    assert registry.entries.first_job(KEYED, LOCAL) is None
    registry.entries.add("a", REQUEST)
    registry.jobs.cancel("a", by="the caller")
    assert (events(registry), registry.jobs.request("a")) == ([("cancelled", 0)], REQUEST)


def test_a_job_whose_status_is_unreadable_can_be_forgotten(entered):
    entered.backend.compare_and_set(job_key("a"), queued_text(entered), "{}")
    entered.entries.forget("a", [])
    assert not entered.jobs.exists("a")


def queued_text(registry: Registry) -> str | None:
    (text,) = registry.backend.get_all([job_key("a")])
    return text


@pytest.mark.parametrize("job_id", ["a", "b"])
def test_forgetting_twice_or_an_unknown_job_does_nothing(entered, job_id):
    entered.entries.forget("a", ["mux"])
    entered.entries.forget(job_id, ["mux"])
    assert list(entered.jobs.newest()) == []


# Progress
