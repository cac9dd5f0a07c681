"""Running a step twice has the effect of running it once, whatever happens in between."""

from __future__ import annotations

import json
import logging
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

from farm.engine import journal
from farm.engine.advance import claim_due_step
from farm.engine.step_context import Postponed, StepContext, WorkerDraining
from farm.errors import (
    CorruptObject,
    FarmUnreachable,
    InvalidInput,
    UploadFailed,
)
from farm.logs import JsonLines
from farm.maintenance.removal import delete_job
from farm.media import sandbox
from farm.registry import Registry
from farm.registry.formats import load
from farm.registry.outputs import Committed, DownloadOutput
from farm.route import DOWNLOAD, EMBED, MUX, Step
from farm.store import integrity, keys
from tests.support.backends import CountingBackend
from tests.support.harness import Harness, refuse
from tests.support.jobs import REQUEST
from tests.support.outputs import chunk_output, download_output, embed_output
from tests.support.steps import acquire, commit, run_step
from tests.support.waiting import wait_for

# One step


def test_a_step_commits_its_output_and_names_the_next(entered):
    assert entered.run(DOWNLOAD) == EMBED
    committed = entered.committed(DOWNLOAD)
    assert isinstance(committed.output, DownloadOutput)
    assert committed.output.visual_kind == "image"
    assert entered.store.size(committed.output.visual_key) is not None
    assert entered.store.size(committed.output.audio_keys[0]) is not None
    assert committed.timings["preprocess_ms"] >= 0


def test_a_download_whose_turn_has_not_come_takes_no_lease(entered):
    turns = []

    @contextmanager
    def turn(job_id):
        turns.append(job_id)
        yield len(turns) > 1

    assert entered.run(DOWNLOAD, turn=turn) is None
    assert entered.registry.steps.attempts("a", DOWNLOAD.id) == 0
    assert entered.run(DOWNLOAD, turn=turn) == EMBED
    assert turns == ["a", "a"]


def test_a_turn_asks_for_no_request_that_the_attempt_has_read(entered):
    backend = CountingBackend(entered.clock)
    ctx = replace(entered.ctx, registry=Registry(backend))

    @contextmanager
    def turn(job_id):
        before = backend.requests
        ctx.registry.jobs.request(job_id)
        assert backend.requests == before
        yield False

    run_step(ctx, "a", DOWNLOAD, turn=turn)


def test_an_attempt_stores_its_output_last(writing):
    writing.run(DOWNLOAD)
    written = [key for key in writing.store.objects if key.startswith("jobs/a/download/0001-")]
    assert len(written) == 3
    assert written[-1].endswith("/output.json")
    content = integrity.get_sealed(writing.store, written[-1])
    stored = load(content, Committed, name=written[-1])
    assert stored == writing.committed(DOWNLOAD)


SANDBOXED = sandbox.sandboxed


def test_download_decodes_nothing_in_the_workers_process(entered, monkeypatch):
    monkeypatch.setattr(sandbox, "sandboxed", SANDBOXED)
    monkeypatch.setattr(sandbox, "BOOT", "raise RuntimeError('this is the child')")
    with pytest.raises(InvalidInput, match=r"cond_video: decoding failed .*this is the child"):
        entered.run(DOWNLOAD)


def test_an_output_that_cannot_be_stored_is_not_committed(entered):
    entered.store.before_put = [refuse]
    assert entered.run(DOWNLOAD) is None
    assert entered.committed(DOWNLOAD) is None


def test_a_step_reports_its_progress(entered):
    entered.run(DOWNLOAD)
    status = entered.status
    assert (status.state, status.stage, status.pct) == ("running", "downloads_ok", 8)


def test_a_second_message_for_a_committed_step_changes_nothing_and_sends_nothing(writing):
    writing.run(DOWNLOAD)
    committed = writing.committed(DOWNLOAD)
    stored = sorted(writing.store.keys(""))
    assert writing.run(DOWNLOAD) is None
    assert (writing.committed(DOWNLOAD), sorted(writing.store.keys(""))) == (committed, stored)


def test_a_committed_step_whose_next_message_was_never_sent_sends_it_once(entered):
    entered.complete(DOWNLOAD)
    assert entered.run(DOWNLOAD) == EMBED
    assert entered.run(DOWNLOAD) is None


@pytest.mark.parametrize(
    ("chunk", "after"),
    [(0, Step("generate", 1)), (1, Step("generate", 2)), (2, MUX)],
)
def test_chunks_follow_each_other_to_the_end_of_the_plan(entered, chunk, after):
    entered.complete(EMBED, embed_output(chunks=3))
    entered.complete(Step("generate", chunk), chunk_output(frames=5))
    assert entered.run(Step("generate", chunk)) == after


def test_the_last_step_ends_the_job(entered):
    entered.complete(EMBED)
    entered.complete(MUX)
    assert entered.run(MUX) is None
    assert entered.status.state == "success"


def test_a_message_for_an_ended_job_does_nothing(entered):
    entered.registry.jobs.cancel("a", by="the caller")
    assert entered.run(DOWNLOAD) is None
    assert entered.committed(DOWNLOAD) is None
    assert entered.registry.steps.current_step_id("a") is None


def test_a_message_for_a_step_under_a_lease_does_nothing(entered):
    lease = acquire(entered.registry, DOWNLOAD.id)
    assert entered.run(DOWNLOAD) is None
    assert (entered.committed(DOWNLOAD), entered.status.state) == (None, "queued")
    assert commit(entered.registry, lease)


def test_an_attempt_leaves_no_scratch_folder(writing):
    writing.run(DOWNLOAD)
    sources = reversed(writing.store.sources)
    scratch = next(source.parent for source in sources if isinstance(source, Path))
    assert scratch.name.startswith("farm-a-")
    assert not scratch.exists()


# Shutting down


def shut_down() -> None:
    raise SystemExit


def test_a_worker_that_is_shut_down_releases_its_step_at_once(writing):
    writing.store.before_put = [shut_down]
    with pytest.raises(SystemExit):
        writing.run(DOWNLOAD)
    assert (writing.status.state, claim_due_step(writing.ctx, "a")) == ("running", DOWNLOAD)


def test_interrupted_attempts_do_not_count(writing):
    for _ in range(writing.ctx.settings.max_attempts + 1):
        writing.store.before_put = [shut_down]
        with pytest.raises(SystemExit):
            writing.run(DOWNLOAD)
    assert writing.run(DOWNLOAD) == EMBED


def drain(harness: Harness, *, after_checks: int = 0) -> None:
    """Delivers the message of a download to a worker that drains, or begins to within the step."""
    answers = chain(repeat(False, after_checks), repeat(True))
    message = "worker is draining; step download goes back to the queue"
    with pytest.raises(WorkerDraining, match=message):
        harness.run(DOWNLOAD, draining=lambda: next(answers))


def test_a_draining_worker_begins_no_step(writing):
    stored = sorted(writing.store.keys(""))
    drain(writing)
    assert (writing.status.state, sorted(writing.store.keys(""))) == ("queued", stored)


@pytest.mark.parametrize("checks", [1, 2])
def test_a_draining_worker_stops_before_the_next_file(entered, checks):
    drain(entered, after_checks=checks)
    assert entered.committed(DOWNLOAD) is None


def test_the_step_of_a_drained_worker_is_run_by_the_next_one_to_get_its_message(entered):
    drain(entered)
    assert entered.run(DOWNLOAD) == EMBED


def test_the_message_of_a_drained_worker_is_undelivered_again(entered):
    drain(entered, after_checks=1)
    assert claim_due_step(entered.ctx, "a") is None
    assert entered.registry.steps.undelivered() == [("a", DOWNLOAD.id)]


def test_drained_attempts_do_not_count(entered):
    for _ in range(entered.ctx.settings.max_attempts + 1):
        drain(entered, after_checks=1)
    assert entered.run(DOWNLOAD) == EMBED


def test_a_draining_worker_still_goes_on_from_a_committed_step(entered):
    entered.complete(DOWNLOAD)
    assert entered.run(DOWNLOAD, draining=lambda: True) == EMBED


# Cancelled or superseded


def test_a_job_that_is_cancelled_meanwhile_stops_and_stays_cancelled(writing):
    writing.store.before_put = [lambda: writing.registry.jobs.cancel("a", by="the caller")]
    assert writing.run(DOWNLOAD) is None
    assert (writing.status.state, writing.committed(DOWNLOAD)) == ("cancelled", None)
    assert writing.failure.message == "cancelled by the caller at downloads_started"


def delete(harness: Harness) -> None:
    harness.registry.jobs.cancel("a", by="the caller")
    delete_job(harness.ctx, "a")


def test_a_job_that_is_deleted_meanwhile_leaves_nothing(writing):
    writing.store.before_put = [lambda: delete(writing)]
    assert writing.run(DOWNLOAD) is None
    assert list(writing.store.keys(keys.JOBS)) == []
    assert list(writing.registry.jobs.newest()) == []


ENDS = [
    None,
    KeyError("an input is gone"),
    CorruptObject("an input is gone"),
    LookupError("the record of an earlier step is gone"),
    Postponed("its turn has not come", after_s=1),
    WorkerDraining("the worker is draining"),
    SystemExit(),
]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
def test_however_an_attempt_ends_nothing_is_left_of_a_job_that_is_deleted_meanwhile(entered, end):
    def store_and_end(ctx: StepContext) -> DownloadOutput:
        delete(entered)
        ctx.put(b"a face", "late.bin")
        if end is not None:
            raise end
        return download_output()

    with suppress(WorkerDraining, SystemExit):
        assert entered.run(DOWNLOAD, step_function=lambda _: store_and_end) is None
    assert list(entered.store.keys("")) == []
    assert list(entered.registry.jobs.newest()) == []


def test_a_message_of_a_deleted_job_changes_nothing(entered):
    delete(entered)
    assert entered.run(DOWNLOAD) is None
    assert list(entered.store.keys("")) == []
    assert list(entered.registry.jobs.newest()) == []


def test_a_job_that_only_the_registry_has_lost_keeps_what_is_stored(writing):
    journal.record_request(writing.ctx, "a", REQUEST)

    def lose() -> None:
        writing.clock.texts.clear()

    writing.store.before_put = [lose]
    assert writing.run(DOWNLOAD) is None
    assert keys.request("a") in list(writing.store.keys(""))
    assert len(list(writing.store.keys("jobs/a/download/"))) > 0


def test_a_failure_after_the_cancellation_does_not_replace_it(writing):
    def cancel_then_fail() -> None:
        writing.registry.jobs.cancel("a", by="the caller")
        raise UploadFailed("the disk is full", retryable=False)

    writing.store.before_put = [cancel_then_fail]
    assert writing.run(DOWNLOAD) is None
    assert (writing.status.state, writing.failure.code) == ("cancelled", "E_CANCELLED")


def supersede(harness: Harness) -> None:
    """Lets the lease expire and another worker complete the step."""
    harness.clock.advance(60)
    harness.complete(DOWNLOAD, download_output(visual_key="of the other attempt"))


def test_a_superseded_attempt_is_discarded(writing):
    writing.store.before_put = [lambda: supersede(writing)]
    assert writing.run(DOWNLOAD) is None
    assert writing.committed(DOWNLOAD).output.visual_key == "of the other attempt"
    assert writing.status.state == "running"


def test_a_failure_of_a_superseded_attempt_does_not_end_the_job(writing):
    def supersede_then_fail() -> None:
        supersede(writing)
        raise UploadFailed("the disk of the slow worker is full", retryable=False)

    writing.store.before_put = [supersede_then_fail]
    with suppress(UploadFailed):
        writing.run(DOWNLOAD)
    assert writing.status.state == "running"


def test_a_lease_is_renewed_while_its_step_is_slow(writing):
    def expires_at() -> float:
        return writing.registry.steps.record("a", DOWNLOAD.id).lease_expires_at

    def be_slow() -> None:
        first = expires_at()
        wait_for(lambda: expires_at() > first)

    writing.store.before_put = [be_slow]
    assert writing.with_settings(lease_s=0.2).run(DOWNLOAD) == EMBED


def test_a_superseded_attempt_stops_at_its_next_report(writing, caplog):
    def be_superseded(ctx: StepContext) -> None:
        supersede(writing)
        wait_for(ctx.lease_lost.is_set)
        ctx.report("download_started")

    slow = writing.with_settings(lease_s=0.2)
    with caplog.at_level(logging.INFO, logger="farm"):
        assert slow.run(DOWNLOAD, step_function=lambda _: be_superseded) is None
    (cancelled,) = [record for record in caplog.records if record.msg == "step_cancelled"]
    assert cancelled.farm["details"]["reason"] == (
        "another attempt at download holds the lease; this one stops at download_started"
    )


def lease_threads() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name == "leases"}


def test_a_lease_is_not_renewed_after_the_end_so_the_reaper_can_close_the_job(writing):
    orphaned = []
    before = lease_threads()

    def be_cancelled_by_a_dead_client() -> None:
        assert lease_threads() - before
        writing.registry.jobs.cancel("a", by="a client that dies right after")
        wait_for(lambda: not lease_threads() - before)
        orphaned.extend(writing.registry.jobs.orphaned())

    writing.store.before_put = [be_cancelled_by_a_dead_client]
    assert writing.with_settings(lease_s=0.2).run(DOWNLOAD) is None
    assert orphaned == ["a"]


class UnreachableForLeases:
    """A backend that the threads which renew leases cannot reach."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        if threading.current_thread().name == "leases":
            raise FarmUnreachable("no broker answers")
        return getattr(self._backend, name)


def test_a_lease_that_cannot_be_renewed_is_logged_with_its_job(writing, caplog):
    caplog.set_level(logging.INFO, logger="farm")
    caplog.handler.setFormatter(JsonLines())
    writing.store.before_put = [lambda: wait_for(lambda: "renewal_failed" in caplog.text)]
    registry = Registry(UnreachableForLeases(writing.clock))
    ctx = replace(writing.with_settings(lease_s=0.2).ctx, registry=registry)
    assert run_step(ctx, "a", DOWNLOAD) == EMBED
    lines = [json.loads(line) for line in caplog.text.splitlines()]
    failed = [line for line in lines if line["event"] == "lease_renewal_failed"]
    assert {line["job_id"] for line in failed} == {"a"}
