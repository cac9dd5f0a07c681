"""Jobs in the registry: entered once, reported on in order, ended once."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from farm.caller import LOCAL
from farm.errors import Cancelled, DownloadFailed, InvalidInput, VersionSkew
from farm.job import Event, JobStatus, Result
from farm.registry import Registry, open_registry
from farm.registry.formats import dump
from farm.registry.keys import account_key, job_key, request_key
from farm.registry.memory import MemoryBackend
from farm.registry.status_record import queued
from tests.support.backends import CountingBackend, death_at_next_write
from tests.support.formats import text_of
from tests.support.jobs import REQUEST, job_request
from tests.support.steps import acquire, commit, complete
from tests.support.threads import race

SUCCESS = Result(job_id="a", status="success")
KEYED = job_request(idempotency_key="key")


def events(registry: Registry, job_id: str = "a") -> list[tuple[str, float]]:
    return [(event.stage, event.pct) for event in registry.jobs.events(job_id, wait_s=0.05)]


def report(registry: Registry, stage: str, pct: float, **details: Any) -> None:
    registry.jobs.report(Event(job_id="a", stage=stage, pct=pct, details=details))


# Entering


def test_a_new_job_is_queued_and_live(registry):
    assert registry.jobs.add("a", REQUEST)
    status = registry.jobs.status("a")
    assert (status.state, status.stage, status.pct, status.ended) == ("queued", "queued", 0, False)
    assert abs(status.created_at - time.time()) < 5
    assert registry.jobs.live() == ["a"]


def test_a_request_is_returned_as_it_was_submitted(entered):
    assert entered.jobs.request("a") == REQUEST


def test_a_request_is_parsed_once(entered):
    assert entered.jobs.request("a") is entered.jobs.request("a")


def test_a_request_that_was_read_before_it_existed_is_found_later(registry):
    with pytest.raises(InvalidInput):
        registry.jobs.request("a")
    registry.jobs.add("a", REQUEST)
    assert registry.jobs.request("a") == REQUEST


def test_a_job_is_entered_once(entered):
    report(entered, "downloads_ok", 8)
    assert entered.jobs.add("a", job_request(prompt="another")) == "a"
    assert entered.jobs.request("a").prompt == REQUEST.prompt
    assert entered.jobs.status("a").stage == "downloads_ok"


@pytest.mark.parametrize("changes", [{"prompt": 1}, {"newer": "https://x.org/?secret"}])
def test_the_error_for_an_unreadable_request_names_its_job_and_quotes_nothing(changes):
    registry = open_registry("memory://")
    registry.jobs.add("a", REQUEST)
    fields = json.loads(dump(REQUEST))["record"]
    registry.backend.texts[request_key("a")] = text_of({**fields, **changes})
    with pytest.raises(
        VersionSkew, match=r"job a: its request .*: (it must be text|there is no)"
    ) as caught:
        registry.jobs.request("a")
    assert "secret" not in str(caught.value.describe(at_stage="download"))


@pytest.mark.parametrize("query", ["status", "request"])
def test_the_error_for_an_unknown_job_names_it(registry, query):
    with pytest.raises(InvalidInput, match="job_id: got 'unknown'; there is no such job"):
        getattr(registry.jobs, query)("unknown")


def test_an_idempotency_key_belongs_to_the_first_job(registry):
    assert registry.jobs.first_job(KEYED, "anna") is None
    assert registry.jobs.add("a", KEYED, caller="anna") == "a"
    assert registry.jobs.add("b", KEYED, caller="anna") == "a"
    assert registry.jobs.first_job(KEYED, "anna") == "a"
    other = job_request(idempotency_key="other")
    assert registry.jobs.add("b", other, caller="anna") == "b"
    assert len(list(registry.jobs.newest())) == 2


def test_an_idempotency_key_is_its_callers_own(registry):
    registry.jobs.add("a", KEYED, caller="anna")
    another = job_request(idempotency_key="key", prompt="a man sings")
    assert registry.jobs.first_job(another, "bob") is None
    assert registry.jobs.add("b", another, caller="bob") == "b"
    assert registry.jobs.first_job(KEYED, "anna") == "a"


def test_a_request_without_an_idempotency_key_is_always_another_job(registry):
    assert registry.jobs.add("a", REQUEST) == "a"
    assert registry.jobs.first_job(REQUEST, LOCAL) is None
    assert registry.jobs.add("b", REQUEST) == "b"


def test_an_idempotency_key_of_another_request_is_refused_with_what_differs(registry):
    registry.jobs.add("a", KEYED)
    other = job_request(idempotency_key="key", prompt="a man sings", sample_steps=5)
    differs = "prompt and sample_steps"
    with pytest.raises(
        InvalidInput,
        match=f"^idempotency_key: got 'key'; job a was submitted with it and another {differs};",
    ):
        registry.jobs.add("b", other)
    assert not registry.jobs.exists("b")


def test_another_priority_is_no_other_request(registry):
    registry.jobs.add("a", KEYED)
    urgent = job_request(idempotency_key="key", priority="high")
    assert registry.jobs.add("b", urgent) == "a"


def test_of_concurrent_jobs_with_one_idempotency_key_one_is_entered(registry):
    job_ids = iter("abcdefgh")
    answers = race(lambda: registry.jobs.add(next(job_ids), KEYED))
    assert len(set(answers)) == len(list(registry.jobs.newest())) == 1


def test_a_job_exists_once_it_is_entered(registry):
    assert not registry.jobs.exists("a")
    registry.jobs.add("a", REQUEST)
    assert registry.jobs.exists("a")


# Listing


def test_jobs_are_listed_newest_first(registry):
    for job_id in ("c", "a", "b"):
        registry.jobs.add(job_id, REQUEST)
        time.sleep(0.002)
    assert [status.job_id for status in registry.jobs.newest()] == ["b", "a", "c"]


def test_jobs_stay_in_order_whatever_happens_to_them(entered):
    time.sleep(0.002)
    entered.jobs.add("b", REQUEST)
    entered.jobs.cancel("b", by="the caller")
    acquire(entered)
    assert [status.job_id for status in entered.jobs.newest()] == ["b", "a"]


@pytest.mark.parametrize("count", [4, 5])
def test_jobs_are_listed_page_by_page(registry, monkeypatch, count):
    monkeypatch.setattr("farm.registry.jobs.PAGE", 2)
    job_ids = list("abcde")[:count]
    for job_id in job_ids:
        registry.jobs.add(job_id, REQUEST)
    assert sorted(status.job_id for status in registry.jobs.newest()) == job_ids


def test_an_ended_job_is_live_until_it_is_closed(entered):
    entered.jobs.add("b", REQUEST)
    entered.jobs.end("a", "success", SUCCESS)
    assert sorted(entered.jobs.live()) == ["a", "b"]
    entered.jobs.close("a")
    assert entered.jobs.live() == ["b"]
    assert len(list(entered.jobs.newest())) == 2


def test_a_new_job_is_orphaned(entered):
    assert entered.jobs.orphaned() == ["a"]


def test_an_ended_job_is_orphaned_until_it_is_closed_even_under_a_lease(entered):
    acquire(entered)
    entered.jobs.cancel("a", by="the caller")
    assert entered.jobs.orphaned() == ["a"]
    entered.jobs.close("a")
    assert entered.jobs.orphaned() == []


def test_a_job_is_over_once_it_has_ended_or_is_not_known(entered):
    assert not entered.jobs.is_over("a")
    entered.jobs.cancel("a", by="the caller")
    assert entered.jobs.is_over("a")
    assert entered.jobs.is_over("of another broker")


def test_a_late_worker_does_not_reopen_a_closed_job(entered):
    lease = acquire(entered, "embed")
    entered.jobs.cancel("a", by="the caller")
    entered.jobs.close("a")
    commit(entered, lease)
    entered.steps.claim_dispatch("a", "notify")
    assert (entered.jobs.orphaned(), entered.jobs.live()) == ([], [])


def test_a_worker_knows_the_status_for_which_its_report_is_refused(entered):
    worker = Registry(entered.backend)
    worker.jobs.report(Event(stage="validation_ok", pct=2, job_id="a"))
    entered.jobs.cancel("a", by="the caller")
    with pytest.raises(Cancelled):
        worker.jobs.report(Event(stage="downloads_ok", pct=10, job_id="a"))
    assert worker.jobs.last_status("a") == entered.jobs.status("a")


def test_a_closed_job_that_is_entered_again_is_not_live(entered):
    entered.jobs.end("a", "success", SUCCESS)
    entered.jobs.close("a")
    assert entered.jobs.add("a", REQUEST) == "a"
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
    assert registry.jobs.restore(ended, REQUEST)
    assert (registry.jobs.status("a"), registry.jobs.request("a")) == (ended, REQUEST)
    assert registry.jobs.live() == []
    assert [status.job_id for status in registry.jobs.newest()] == ["a"]
    assert events(registry) == [("completed", 100)]


def test_a_restored_job_with_a_pending_webhook_is_live(registry):
    ended = queued("a", 1000).model_copy(update={"state": "success", "stage": "completed"})
    registry.jobs.restore(ended, REQUEST, webhook_pending=True)
    assert registry.jobs.live() == ["a"]


def test_a_live_job_is_restored_behind_its_last_step(registry):
    registry.jobs.restore(queued("a", 1000), REQUEST, current_step_id="embed")
    assert registry.jobs.status("a") == queued("a", 1000)
    assert registry.steps.current_step_id("a") == "embed"
    assert registry.jobs.orphaned() == ["a"]


def test_a_known_job_is_not_restored(entered):
    report(entered, "downloads_ok", 8)
    assert not entered.jobs.restore(queued("a", 1000), REQUEST, current_step_id="mux")
    assert entered.jobs.status("a").stage == "downloads_ok"
    assert entered.steps.current_step_id("a") is None


def test_a_repair_enters_what_is_lost_and_changes_nothing_else(entered):
    acquire(entered)
    for index in ("jobs", "remaining_gpu_s"):
        entered.backend.remove_member(index, "a")
    entered.backend.delete(request_key("a"))
    assert entered.jobs.lost_parts("a", live=False) == ["request", "jobs", "remaining_gpu_s"]
    other = Registry(entered.backend)  # which has read nothing yet
    other.jobs.repair("a", REQUEST, live=False)
    assert other.jobs.lost_parts("a", live=False) == []
    assert (other.jobs.request("a"), other.jobs.orphaned()) == (REQUEST, [])


@pytest.mark.parametrize("live", [True, False])
def test_a_repaired_job_that_has_ended_is_live_only_if_its_end_is_pending(entered, live):
    entered.jobs.cancel("a", by="a test")
    entered.jobs.close("a")
    assert entered.jobs.lost_parts("a", live=live) == (["live"] if live else [])
    entered.jobs.repair("a", REQUEST, live=live)
    assert entered.jobs.live() == (["a"] if live else [])


def test_an_unknown_job_has_no_parts_and_is_not_repaired(registry):
    with pytest.raises(InvalidInput, match="no such job"):
        registry.jobs.lost_parts("a", live=False)
    registry.jobs.repair("a", REQUEST, live=True)
    assert (registry.jobs.exists("a"), registry.jobs.live()) == (False, [])


def test_a_forgotten_job_leaves_nothing(registry):
    registry.jobs.add("a", KEYED)
    complete(registry, "mux")
    registry.jobs.end("a", "success", SUCCESS)
    registry.jobs.forget("a", ["mux"])
    assert not registry.jobs.exists("a")
    assert (list(registry.jobs.newest()), registry.jobs.live()) == ([], [])
    assert registry.steps.committed("a", "mux") is None
    assert registry.backend.get_all([account_key(LOCAL)]) == [None]
    assert registry.jobs.first_job(KEYED, LOCAL) is None
    registry.jobs.add("a", REQUEST)
    registry.jobs.cancel("a", by="the caller")
    assert (events(registry), registry.jobs.request("a")) == ([("cancelled", 0)], REQUEST)


def test_a_job_whose_status_is_unreadable_can_be_forgotten(entered):
    entered.backend.compare_and_set(job_key("a"), queued_text(entered), "{}")
    entered.jobs.forget("a", [])
    assert not entered.jobs.exists("a")


def queued_text(registry: Registry) -> str | None:
    (text,) = registry.backend.get_all([job_key("a")])
    return text


@pytest.mark.parametrize("job_id", ["a", "b"])
def test_forgetting_twice_or_an_unknown_job_does_nothing(entered, job_id):
    entered.jobs.forget("a", ["mux"])
    entered.jobs.forget(job_id, ["mux"])
    assert list(entered.jobs.newest()) == []


# Progress


def test_a_report_advances_the_job(entered):
    report(entered, "embeddings_ok", 15, frames=81)
    status = entered.jobs.status("a")
    assert (status.state, status.stage, status.pct) == ("running", "embeddings_ok", 15)
    assert status.details == {"frames": 81}
    assert status.updated_at >= status.created_at


def test_percent_never_decreases_even_if_a_step_is_run_again(entered):
    for stage, pct in (("embeddings_ok", 15), ("downloads_started", 3), ("generation_started", 20)):
        report(entered, stage, pct)
    entered.jobs.end("a", "success", SUCCESS)
    assert events(entered) == [
        ("embeddings_ok", 15),
        ("downloads_started", 15),
        ("generation_started", 20),
        ("completed", 100),
    ]


def test_several_events_are_reported_in_order_in_one_request():
    backend = CountingBackend(MemoryBackend())
    registry = Registry(backend)
    registry.jobs.add("a", REQUEST)
    report(registry, "embeddings_started", 10)
    before = backend.requests
    registry.jobs.report(
        Event(stage="validation_ok", pct=2, job_id="a"),
        Event(stage="embeddings_ok", pct=15, job_id="a"),
        Event(stage="pipeline_warm_ok", pct=18, job_id="a"),
    )
    assert backend.requests == before + 1
    assert registry.jobs.status("a").stage == "pipeline_warm_ok"
    registry.jobs.end("a", "success", SUCCESS)
    assert events(registry)[:-1] == [
        ("embeddings_started", 10),
        ("validation_ok", 10),  # never back
        ("embeddings_ok", 15),
        ("pipeline_warm_ok", 18),
    ]


def test_a_report_after_the_end_cancels_the_step(entered):
    entered.jobs.end("a", "success", SUCCESS)
    with pytest.raises(Cancelled, match="job a has ended"):
        report(entered, "muxing_ok", 90)
    assert events(entered) == [("completed", 100)]


def test_a_report_on_a_job_that_the_broker_has_lost_cancels_the_step(registry):
    with pytest.raises(Cancelled, match="the broker has lost it"):
        report(registry, "muxing_ok", 90)
    assert not registry.jobs.exists("a")


def test_concurrent_reports_are_all_kept(entered):
    numbers = iter(range(8))
    race(lambda: report(entered, f"stage {next(numbers)}", 1))
    entered.jobs.end("a", "success", SUCCESS)
    assert len(events(entered)) == 9


def test_a_late_reader_gets_every_event_from_the_first(entered):
    report(entered, "validation_started", 0)
    report(entered, "validation_ok", 2, size="x")
    entered.jobs.end("a", "success", SUCCESS)
    found = list(entered.jobs.events("a"))
    assert [event.stage for event in found] == ["validation_started", "validation_ok", "completed"]
    assert found[1].details == {"size": "x"}


def test_a_waiting_reader_gets_an_event_when_it_is_reported(entered):
    stream = entered.jobs.events("a", wait_s=5)
    reporter = threading.Timer(0.1, report, (entered, "validation_started", 0))
    start = time.monotonic()
    reporter.start()
    assert next(stream).stage == "validation_started"
    assert 0.05 < time.monotonic() - start < 2
    reporter.join()


def test_two_readers_get_the_same_events(entered):
    report(entered, "validation_started", 0)
    entered.jobs.end("a", "success", SUCCESS)
    expected = [("validation_started", 0), ("completed", 100)]
    assert events(entered) == events(entered) == expected


def test_a_reader_does_not_wait_once_the_job_has_ended(entered):
    entered.jobs.end("a", "success", SUCCESS)
    start = time.monotonic()
    assert [event.stage for event in entered.jobs.events("a", wait_s=60)] == ["completed"]
    assert time.monotonic() - start < 30


def test_an_ended_job_whose_events_are_gone_has_none_and_blocks_no_reader(entered):
    entered.jobs.end("a", "success", SUCCESS)
    entered.backend.delete("events:a")
    start = time.monotonic()
    assert list(entered.jobs.events("a", wait_s=60)) == []
    assert time.monotonic() - start < 30


# The end


def test_a_job_ends_once(entered):
    assert entered.jobs.end("a", "success", SUCCESS)
    assert not entered.jobs.fail("a", DownloadFailed("too late"), at_stage="mux")
    status = entered.jobs.status("a")
    assert (status.state, status.stage, status.pct) == ("success", "completed", 100)
    assert status.result == SUCCESS
    assert events(entered) == [("completed", 100)]


def test_of_concurrent_ends_one_counts(entered):
    answers = race(lambda: entered.jobs.end("a", "success", SUCCESS))
    assert sorted(answers) == [False] * 7 + [True]
    assert events(entered) == [("completed", 100)]


def test_a_job_that_the_broker_has_lost_does_not_end(registry):
    assert not registry.jobs.end("a", "success", SUCCESS)
    assert not registry.jobs.exists("a")


def test_a_failed_job_keeps_its_error_and_its_percent(entered):
    report(entered, "downloads_started", 3)
    assert entered.jobs.fail("a", DownloadFailed("404"), at_stage="downloads_started")
    status = entered.jobs.status("a")
    assert (status.state, status.pct) == ("error", 3)
    assert status.details == {"code": "E_DOWNLOAD_FAILED", "message": "404"}
    error = status.result.error
    assert (error.code, error.message) == ("E_DOWNLOAD_FAILED", "404")
    assert error.at_stage == "downloads_started"
    assert events(entered)[-1] == ("error", 3)


def test_a_queued_job_can_be_cancelled(entered):
    assert entered.jobs.cancel("a", by="the caller")
    status = entered.jobs.status("a")
    assert status.state == "cancelled"
    assert status.result.error.code == "E_CANCELLED"
    assert status.result.error.message == "cancelled by the caller at queued"


def test_the_step_of_a_cancelled_job_stops_at_its_next_report(entered):
    report(entered, "generation_started", 20)
    entered.jobs.cancel("a", by="farm cancel")
    with pytest.raises(Cancelled):
        report(entered, "chunk_0_pre", 20)
    assert entered.jobs.status("a").result.error.at_stage == "generation_started"


def test_an_ended_job_cannot_be_cancelled(entered):
    entered.jobs.end("a", "success", SUCCESS)
    assert not entered.jobs.cancel("a", by="the caller")
    assert entered.jobs.status("a").state == "success"


def test_an_unknown_job_cannot_be_cancelled(registry):
    with pytest.raises(InvalidInput, match="unknown"):
        registry.jobs.cancel("unknown", by="the caller")


def test_a_job_whose_canceller_died_afterwards_has_ended_and_stays_live(entered):
    with death_at_next_write(entered.backend, after=True):
        entered.jobs.cancel("a", by="the caller")
    assert (entered.jobs.status("a").state, entered.jobs.live()) == ("cancelled", ["a"])
    assert events(entered) == [("cancelled", 0)]
    entered.jobs.close("a")
    assert entered.jobs.live() == []


def test_a_job_whose_canceller_died_before_has_not_ended(entered):
    with death_at_next_write(entered.backend, after=False):
        entered.jobs.cancel("a", by="the caller")
    assert (entered.jobs.status("a").state, entered.jobs.live()) == ("queued", ["a"])
