"""What garbage collection removes, and above all what it leaves."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farm.caller import LOCAL
from farm.client import Farm, Job
from farm.engine import journal, scratch
from farm.engine.context import Context
from farm.errors import InvalidInput
from farm.job import Result
from farm.maintenance.gc import Garbage, find_garbage
from farm.maintenance.recover import recover
from farm.registry import Lease, Registry, open_registry
from farm.registry.batches import Batch, BatchItem
from farm.registry.formats import dump
from farm.registry.keys import idempotency_record_key
from farm.registry.outputs import StepOutput
from farm.route import DOWNLOAD, steps_of_job
from farm.settings import Settings
from farm.store import Store, integrity, keys, open_store
from tests.support.attempts import FIRST, attempt, foreseeable
from tests.support.backends import ClockBackend, Countdown, Interrupted
from tests.support.jobs import job_request
from tests.support.outputs import committed, embed_output, output_of
from tests.support.steps import acquire

REQUEST = job_request(idempotency_key="order 66")
DAY_S = 86400


class Harness:
    """The context of one job, `a`, which is kept for a week after its end."""

    def __init__(self, store: Store, home: Path) -> None:
        self.clock = ClockBackend()
        settings = Settings(home=home, keep_jobs_s=7 * DAY_S)
        self.ctx = Context(settings, store, Registry(self.clock))
        journal.record_request(self.ctx, "a", REQUEST)
        self.registry.entries.add("a", REQUEST)

    @property
    def registry(self) -> Registry:
        return self.ctx.registry

    def acquire(self, step_id: str, *, lease_s: float = 60) -> Lease:
        return acquire(self.registry, step_id, lease_s=lease_s, max_attempts=99)

    def store(self, step_id: str, attempt_id: str, name: str = "data") -> str:
        """Stores an object of an attempt; its key."""
        key = keys.attempt("a", step_id, attempt_id, name)
        self.ctx.store.put(key, b"data")
        return key

    def complete(self, step_id: str, output: StepOutput | None = None) -> None:
        """Runs a step as a worker does."""
        lease = self.acquire(step_id)
        envelope = committed(output or output_of(step_id), attempt_id=lease.attempt_id)
        self.store(step_id, lease.attempt_id)
        key = keys.attempt("a", step_id, lease.attempt_id, keys.OUTPUT)
        integrity.put_sealed(self.ctx.store, key, dump(envelope).encode())
        assert self.registry.commit(lease, envelope)

    def finish(self) -> None:
        """Runs every step of a job of two chunks."""
        for step in steps_of_job(2):
            output = embed_output(chunks=2) if step.kind == "embed" else None
            self.complete(step.id, output)
        self.registry.jobs.end("a", "success", Result(job_id="a", status="success"))
        journal.close_job(self.ctx, "a")

    def stored(self) -> list[str]:
        return list(self.ctx.store.keys(""))

    def found(self, **settings: Any) -> list[Garbage]:
        changed = self.ctx.settings.model_copy(update=settings)
        return list(find_garbage(replace(self.ctx, settings=changed)))

    def collect(self, **settings: Any) -> None:
        for each in self.found(**settings):
            each.remove()


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's temporary folder, empty."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


@pytest.fixture
def harness(store: Store, tmp_path: Path) -> Harness:
    return Harness(store, tmp_path)


# Attempts


def test_a_superseded_attempt_is_removed_and_the_committed_one_stays(harness):
    lease = harness.acquire("generate-0000", lease_s=0)
    slow = harness.store("generate-0000", lease.attempt_id)
    harness.complete("generate-0000")
    (found,) = harness.found()
    assert found.reason == "superseded"
    assert found.name == f"jobs/a/generate-0000/{lease.attempt_id}/"
    assert (found.objects, found.bytes) == (1, 4)
    before = harness.stored()
    found.remove()
    assert harness.stored() == [key for key in before if key != slow]
    assert harness.found() == []


def test_finding_garbage_removes_nothing(harness):
    lease = harness.acquire("generate-0000", lease_s=0)
    harness.store("generate-0000", lease.attempt_id)
    harness.complete("generate-0000")
    before = harness.stored()
    assert harness.found()
    assert harness.stored() == before


@pytest.mark.parametrize("lease_s", [60, 0], ids=["leased", "expired"])
def test_an_attempt_that_may_still_commit_stays(harness, lease_s):
    lease = harness.acquire("generate-0000", lease_s=lease_s)
    harness.store("generate-0000", lease.attempt_id)
    assert harness.found() == []


def test_an_attempt_is_superseded_as_soon_as_another_has_the_lease(harness):
    lease = harness.acquire("generate-0000", lease_s=0)
    harness.store("generate-0000", lease.attempt_id)
    harness.store("generate-0000", harness.acquire("generate-0000").attempt_id)
    assert [each.name for each in harness.found()] == [f"jobs/a/generate-0000/{lease.attempt_id}/"]


def test_an_attempt_at_a_step_that_was_never_leased_stays(harness):
    harness.store("generate-0000", FIRST)
    assert harness.found() == []


def test_attempts_from_before_a_recovery_are_removed(harness):
    harness.store("generate-0000", FIRST)
    harness.registry.steps.restore("a", "generate-0000", attempt_id=attempt(1000))
    assert [each.name for each in harness.found()] == [f"jobs/a/generate-0000/{FIRST}/"]
    harness.complete("generate-0000")
    late = harness.store("generate-0000", attempt(99_999))
    harness.collect()
    assert late not in harness.stored()
    recovered = keys.attempt("a", "generate-0000", attempt(1001), "data")
    assert recovered in map(foreseeable, harness.stored())
    assert harness.found() == []


def test_a_half_removed_attempt_is_never_taken_for_a_complete_one(harness, monkeypatch):
    lease = harness.acquire("generate-0000", lease_s=0)
    for name in ("a", keys.OUTPUT, "z"):
        harness.store("generate-0000", lease.attempt_id, name)
    harness.complete("generate-0000")
    (found,) = harness.found()
    removed: list[str] = []
    monkeypatch.setattr(harness.ctx.store, "delete", removed.append)
    found.remove()
    assert [key.rpartition("/")[2] for key in removed] == [keys.OUTPUT, "a", "z"]


# Jobs that have ended


def test_a_finished_job_is_left_alone_for_its_time(harness):
    harness.finish()
    harness.clock.advance(DAY_S - 60)
    assert harness.found() == []


def test_after_its_time_a_video_stays_without_what_it_was_made_from(harness):
    harness.finish()
    assert keys.playlist("a") in harness.stored()
    harness.clock.advance(DAY_S)
    (found,) = harness.found()
    assert (found.reason, found.name, found.objects) == ("intermediate", "jobs/a/", 9)
    before = sum(harness.ctx.store.size(key) for key in harness.stored())
    found.remove()
    after = sum(harness.ctx.store.size(key) for key in harness.stored())
    assert found.bytes == before - after
    assert [foreseeable(key) for key in harness.stored()] == [
        "jobs/a/end.json",
        f"jobs/a/mux/{FIRST}/data",
        f"jobs/a/mux/{FIRST}/output.json",
        "jobs/a/request.json",
    ]
    assert harness.found() == []


def test_a_superseded_attempt_at_the_video_is_removed_too(harness):
    lease = harness.acquire("mux", lease_s=0)
    slow = harness.store("mux", lease.attempt_id)
    harness.finish()
    harness.clock.advance(DAY_S)
    harness.collect()
    assert slow not in harness.stored()
    assert keys.attempt("a", "mux", attempt(2), "data") in map(foreseeable, harness.stored())


def test_a_playlist_is_removed_before_the_segments_that_it_lists(harness, monkeypatch):
    harness.finish()
    harness.clock.advance(DAY_S)
    (found,) = harness.found()
    removed: list[str] = []
    monkeypatch.setattr(harness.ctx.store, "delete", removed.append)
    found.remove()
    assert removed[0] == keys.playlist("a")


def test_the_outputs_of_a_cancelled_job_are_removed_after_its_time(harness):
    harness.complete("download")
    Job(harness.ctx, "a").cancel()
    harness.clock.advance(DAY_S)
    harness.collect()
    assert harness.stored() == ["jobs/a/end.json", "jobs/a/request.json"]


def test_a_live_job_keeps_its_outputs_however_old_it_is(harness):
    harness.complete("download")
    harness.clock.advance(99 * DAY_S)
    assert harness.found() == []


def test_a_job_whose_end_is_not_in_the_store_keeps_its_outputs(harness):
    harness.complete("download")
    harness.registry.jobs.cancel("a", by="the caller")
    harness.clock.advance(99 * DAY_S)
    assert harness.found() == []


def test_an_expired_job_is_removed_with_every_record(harness):
    harness.finish()
    harness.clock.advance(7 * DAY_S)
    (found,) = harness.found()
    assert (found.reason, found.name, found.objects) == ("expired", "jobs/a/", 13)
    found.remove()
    assert (harness.stored(), harness.clock.texts) == ([], {})
    assert dict(harness.clock.streams) == {}
    assert (list(harness.registry.jobs.newest()), harness.registry.jobs.live()) == ([], [])
    with pytest.raises(InvalidInput, match="no such job"):
        harness.registry.jobs.status("a")


def test_a_recovered_job_of_which_only_the_video_was_left_expires_with_every_record(harness):
    # Given a finished job without its intermediates
    harness.finish()
    harness.clock.advance(DAY_S)
    harness.collect()
    # When the broker loses everything, the job is recovered and then expires
    (job,) = journal.stored_jobs(harness.ctx.store)
    harness.clock.texts.clear()
    assert recover(harness.ctx, *job).outcome == "already_ended"
    harness.clock.advance(7 * DAY_S)
    harness.collect()
    assert (harness.stored(), harness.clock.texts) == ([], {})


def test_a_recovered_job_of_unknown_length_expires_with_the_fences_of_its_chunks(harness):
    # Given a job with attempts at two chunks, whose embeddings were lost with the broker
    harness.store("generate-0000", FIRST)
    harness.store("generate-0001", FIRST)
    (job,) = journal.stored_jobs(harness.ctx.store)
    harness.clock.texts.clear()
    assert recover(harness.ctx, *job).outcome == "resumed"
    # When it is cancelled and expires
    Job(harness.ctx, "a").cancel()
    harness.clock.advance(7 * DAY_S)
    harness.collect()
    assert (harness.stored(), harness.clock.texts) == ([], {})


def test_a_job_expires_only_if_the_operator_sets_a_limit(harness):
    harness.finish()
    harness.clock.advance(999 * DAY_S)
    harness.collect(keep_jobs_s=None)
    assert harness.registry.jobs.status("a").state == "success"
    assert any(key.startswith("jobs/a/mux/") for key in harness.stored())


def test_with_a_limit_of_zero_a_job_expires_at_its_end(harness):
    harness.finish()
    assert [each.reason for each in harness.found(keep_jobs_s=0)] == ["expired"]


def test_an_idempotency_key_that_belongs_to_another_job_by_now_is_kept(harness):
    harness.finish()
    harness.clock.delete(idempotency_record_key(LOCAL, "order 66"))
    harness.registry.entries.add("b", REQUEST)
    harness.clock.advance(7 * DAY_S)
    harness.collect()
    assert harness.registry.entries.first_job(REQUEST, LOCAL) == "b"


# At any time


def test_jobs_that_the_broker_has_lost_are_left_alone(harness):
    harness.finish()
    harness.store("generate-0000", attempt(2))
    harness.clock.advance(99 * DAY_S)
    lost = replace(harness.ctx, registry=open_registry("memory://"))
    assert list(find_garbage(lost)) == []


def store_shared(harness: Harness) -> list[str]:
    found = ["shared/text/0123", "uploads/0123"]
    for key in found:
        harness.ctx.store.put(key, b"bytes")
    return found


def test_uploads_and_shared_features_expire_a_week_after_they_were_written(harness):
    stored = store_shared(harness)
    harness.finish()
    harness.clock.advance(6.9 * DAY_S)
    harness.collect(keep_jobs_s=None)
    assert set(stored) <= set(harness.stored())
    harness.clock.advance(0.2 * DAY_S)
    harness.collect(keep_jobs_s=None)
    assert not set(stored) & set(harness.stored())


def test_uploads_and_shared_features_stay_while_a_live_job_may_use_them(harness):
    stored = store_shared(harness)
    harness.clock.advance(99 * DAY_S)
    assert harness.found() == []
    Job(harness.ctx, "a").cancel()
    harness.collect()
    assert not set(stored) & set(harness.stored())


def test_uploads_and_shared_features_can_be_kept_for_ever(harness):
    stored = store_shared(harness)
    harness.finish()
    harness.clock.advance(99 * DAY_S)
    harness.collect(keep_shared_s=None)
    assert harness.stored() == stored


def test_by_default_an_ended_job_expires_with_its_events_after_30_days(harness):
    default = Settings().keep_jobs_s
    harness.finish()
    harness.clock.advance(29 * DAY_S)
    harness.collect(keep_jobs_s=default)
    assert harness.registry.jobs.exists("a")
    harness.clock.advance(DAY_S)
    harness.collect(keep_jobs_s=default)
    assert (harness.stored(), harness.clock.texts, dict(harness.clock.streams)) == ([], {}, {})


@pytest.mark.parametrize("deletions", range(45))
def test_an_interrupted_collection_can_be_repeated_and_brings_no_job_back(tmp_path, deletions):
    harness = Harness(open_store("memory://"), tmp_path)
    harness.finish()
    harness.clock.advance(7 * DAY_S)
    countdown = Countdown(deletions)
    store = Interrupted(harness.ctx.store, countdown, "delete")
    backend = Interrupted(harness.clock, countdown, "delete", "remove_member")
    try:
        for each in find_garbage(Context(harness.ctx.settings, store, Registry(backend))):
            each.remove()
    except KeyboardInterrupt:
        # The next process knows nothing of what this one has read.
        harness.ctx = replace(harness.ctx, registry=Registry(harness.clock))
        harness.collect()
        for job_id, job_keys in journal.stored_jobs(harness.ctx.store):
            assert recover(harness.ctx, job_id, job_keys).outcome != "resumed"
        harness.collect()
    assert (harness.stored(), harness.clock.texts) == ([], {})
    assert harness.found() == []


# This machine


def test_the_scratch_folder_of_a_dead_worker_is_removed(harness, temporary):
    folder = temporary / "farm-a-0123"
    folder.mkdir()
    (folder / scratch.LOCK).write_bytes(b"")
    (folder / "image").write_bytes(b"pixels")
    os.utime(folder, (0, 0))
    (found,) = harness.found()
    assert (found.reason, found.name) == ("abandoned", str(folder))
    assert (found.objects, found.bytes) == (1, 6)
    harness.collect()
    assert not folder.exists()


# The client


def test_a_dry_run_removes_nothing(broker, tmp_path):
    farm = Farm(broker, settings=Settings(home=tmp_path, keep_intermediates_s=0))
    job = farm.submit(REQUEST)
    farm.context.store.put(keys.attempt(job.id, DOWNLOAD.id, FIRST, "data"), b"data")
    job.cancel()
    assert [each.reason for each in farm.gc(dry_run=True)] == ["intermediate"]
    assert [each.reason for each in farm.gc()] == ["intermediate"]
    assert list(farm.gc()) == []


@pytest.mark.parametrize("store", ["memory"], indirect=True)
def test_a_batch_expires_with_the_last_of_its_jobs(harness):
    items = (BatchItem(id="item-0", job_id="a"), BatchItem(id="item-1"))
    created_at = harness.registry.now()
    harness.registry.batches.add(
        Batch(batch_id="batch-1", caller=LOCAL, created_at=created_at, items=items)
    )
    harness.clock.advance(8 * DAY_S)
    harness.collect()
    assert harness.registry.batches.read("batch-1") is not None, "its job has not ended"
    harness.finish()
    harness.clock.advance(8 * DAY_S)
    harness.collect()

    harness.collect()  # after its jobs are gone
    assert harness.registry.batches.read("batch-1") is None
    assert harness.registry.batches.older_than(0) == []
