"""Jobs in the registry: reported on in order, ended once."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from farm.errors import Cancelled, DownloadFailed, InvalidInput, VersionSkew
from farm.job import Event, Result
from farm.registry import Registry, open_registry
from farm.registry.formats import dump
from farm.registry.keys import request_key
from farm.registry.memory import MemoryBackend
from tests.support.backends import CountingBackend, death_at_next_write
from tests.support.formats import text_of
from tests.support.jobs import REQUEST
from tests.support.steps import acquire, commit
from tests.support.threads import race

SUCCESS = Result(job_id="a", status="success")


def events(registry: Registry, job_id: str = "a") -> list[tuple[str, float]]:
    return [(event.stage, event.pct) for event in registry.jobs.events(job_id, wait_s=0.05)]


def report(registry: Registry, stage: str, pct: float, **details: Any) -> None:
    registry.jobs.report(Event(job_id="a", stage=stage, pct=pct, details=details))


# Entering


def test_a_new_job_is_queued_and_live(registry):
    assert registry.entries.add("a", REQUEST)
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
    registry.entries.add("a", REQUEST)
    assert registry.jobs.request("a") == REQUEST


@pytest.mark.parametrize("changes", [{"prompt": 1}, {"newer": "https://x.org/?secret"}])
def test_the_error_for_an_unreadable_request_names_its_job_and_quotes_nothing(changes):
    registry = open_registry("memory://")
    registry.entries.add("a", REQUEST)
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


def test_a_job_exists_once_it_is_entered(registry):
    assert not registry.jobs.exists("a")
    registry.entries.add("a", REQUEST)
    assert registry.jobs.exists("a")


# Listing


def test_jobs_are_listed_newest_first(registry):
    for job_id in ("c", "a", "b"):
        registry.entries.add(job_id, REQUEST)
        time.sleep(0.002)
    assert [status.job_id for status in registry.jobs.newest()] == ["b", "a", "c"]


def test_jobs_stay_in_order_whatever_happens_to_them(entered):
    time.sleep(0.002)
    entered.entries.add("b", REQUEST)
    entered.jobs.cancel("b", by="the caller")
    acquire(entered)
    assert [status.job_id for status in entered.jobs.newest()] == ["b", "a"]


@pytest.mark.parametrize("count", [4, 5])
def test_jobs_are_listed_page_by_page(registry, monkeypatch, count):
    monkeypatch.setattr("farm.registry.jobs.PAGE", 2)
    job_ids = list("abcde")[:count]
    for job_id in job_ids:
        registry.entries.add(job_id, REQUEST)
    assert sorted(status.job_id for status in registry.jobs.newest()) == job_ids


def test_an_ended_job_is_live_until_it_is_closed(entered):
    entered.entries.add("b", REQUEST)
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
    registry.entries.add("a", REQUEST)
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
    stream = entered.jobs.events("a", wait_s=60)
    reporter = threading.Timer(0.1, report, (entered, "validation_started", 0))
    start = time.monotonic()
    reporter.start()
    assert next(stream).stage == "validation_started"
    assert time.monotonic() - start < 30
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
