"""What `farm gc` removes, and above all what it leaves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from farm.client import Farm, Job
from farm.engine import journal, scratch
from farm.engine.context import Context
from farm.route import FIRST
from farm.errors import InvalidInput
from farm.job import JobRequest, Result
from farm.maintenance.gc import Garbage, find_garbage
from farm.maintenance.recover import recover
from farm.registry import Registry, open_registry
from farm.registry.memory import MemoryBackend
from farm.settings import Settings
from farm.store import Store, keys, open_store

REQUEST = JobRequest(
    prompt="x",
    cond_video="https://example.org/face.png",
    cond_audio={"person1": "https://example.org/voice.wav"},
    idempotency_key="order 66",
)
PRODUCTS = ["download", "embed", "generate-0000", "generate-0001", "mux"]
DAY_S = 86400


class Clock(MemoryBackend):
    """A ledger whose clock a test can put forward."""

    remaining_gpu_s = 0.0

    def now(self) -> float:
        return super().now() + self.remaining_gpu_s


class Harness:
    """A place with one job, `a`, and what may happen to it."""

    def __init__(self, store: Store, home: Path) -> None:
        self.clock = Clock()
        self.context = Context(Settings(home=home, keep_jobs_s=7 * DAY_S), store, Registry(self.clock))
        journal.enter(self.context, "a", REQUEST)
        self.context.registry.jobs.claim_idempotency_key("order 66", "a")
        self.context.registry.jobs.add("a", REQUEST)

    def take(self, step_id: str, *, lease_s: float = 60) -> Any:
        return self.context.registry.steps.acquire("a", step_id, lease_s=lease_s, max_attempts=99)

    def write(self, step_id: str, number: int, name: str = "goods", content: bytes = b"0123456789") -> str:
        key = keys.attempt("a", step_id, number, name)
        self.context.store.put(key, content)
        return key

    def make(self, step_id: str, **output: Any) -> Any:
        """Makes a product as a worker does; its lease."""
        lease = self.take(step_id)
        self.write(step_id, lease.fence)
        self.write(step_id, lease.fence, keys.OUTPUT)
        assert self.context.registry.steps.commit(lease, {"attempt": lease.fence, **output})
        return lease

    def finish(self) -> None:
        for step_id in PRODUCTS:
            self.make(step_id, chunks=2, links={"init": "i", "segment": "s"}, frames=81, result={})
        self.context.registry.jobs.end("a", "success", Result(job_id="a", status="success"))
        journal.close(self.context, "a")

    def stored(self) -> list[str]:
        return list(self.context.store.keys(""))

    def found(self) -> list[Garbage]:
        return list(find_garbage(self.context))

    def sweep(self) -> None:
        for each in self.found():
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


def test_an_attempt_that_was_overtaken_goes_and_the_one_that_counts_stays(harness):
    harness.take("generate-0000", lease_s=0)
    slow = harness.write("generate-0000", 1)
    harness.make("generate-0000")
    (found,) = harness.found()
    assert (found.reason, found.name) == ("overtaken", "jobs/a/generate-0000/0001/")
    assert (found.objects, found.bytes) == (1, 10)
    before = harness.stored()
    found.remove()
    assert harness.stored() == [key for key in before if key != slow]
    assert harness.found() == []


def test_nothing_goes_before_it_is_removed(harness):
    harness.take("generate-0000", lease_s=0)
    harness.write("generate-0000", 1)
    harness.make("generate-0000")
    before = harness.stored()
    harness.found()
    assert harness.stored() == before


@pytest.mark.parametrize("lease_s", [60, 0], ids=["alive", "silent"])
def test_an_attempt_that_may_still_hand_in_stays(harness, lease_s):
    harness.take("generate-0000", lease_s=lease_s)
    harness.write("generate-0000", 1)
    assert harness.found() == []


def test_an_attempt_goes_as_soon_as_another_has_the_lease(harness):
    harness.take("generate-0000", lease_s=0)
    harness.write("generate-0000", 1)
    harness.take("generate-0000")
    harness.write("generate-0000", 2)
    assert [each.name for each in harness.found()] == ["jobs/a/generate-0000/0001/"]


def test_an_attempt_under_a_product_that_nobody_took_stays(harness):
    harness.write("generate-0000", 1)
    assert harness.found() == []


def test_an_attempt_of_before_a_recovery_goes_once_its_product_is_made_again(harness):
    harness.write("generate-0000", 1)
    harness.context.registry.steps.restore("a", "generate-0000", fence=1000)
    assert [each.name for each in harness.found()] == ["jobs/a/generate-0000/0001/"]
    harness.make("generate-0000")
    late = harness.write("generate-0000", 99_999)
    harness.sweep()
    assert late not in harness.stored()
    assert harness.write("generate-0000", 1001) in harness.stored()
    assert harness.found() == []


def test_an_attempt_that_is_half_removed_is_never_taken_for_a_whole_one(harness, monkeypatch):
    harness.take("generate-0000", lease_s=0)
    for name in ("a", keys.OUTPUT, "z"):
        harness.write("generate-0000", 1, name)
    harness.make("generate-0000")
    (found,) = harness.found()
    gone: list[str] = []
    monkeypatch.setattr(harness.context.store, "delete", gone.append)
    found.remove()
    assert [key.rpartition("/")[2] for key in gone] == [keys.OUTPUT, "a", "z"]


# Jobs that have ended


def test_a_finished_job_is_left_alone_for_its_time(harness):
    harness.finish()
    harness.clock.remaining_gpu_s = DAY_S - 60
    assert harness.found() == []


def test_what_a_video_was_made_of_goes_after_its_time_and_the_video_stays(harness):
    harness.finish()
    playlist = keys.playlist("a")
    assert playlist in harness.stored()
    harness.clock.remaining_gpu_s = DAY_S
    (found,) = harness.found()
    assert (found.reason, found.name, found.objects) == ("intermediate", "jobs/a/", 9)
    size = sum(harness.context.store.size(key) for key in harness.stored())
    found.remove()
    assert found.bytes == size - sum(harness.context.store.size(key) for key in harness.stored())
    assert harness.stored() == [
        "jobs/a/end.json",
        "jobs/a/mux/0001/goods",
        "jobs/a/mux/0001/output.json",
        "jobs/a/request.json",
    ]
    assert harness.found() == []


def test_an_attempt_at_the_video_that_was_overtaken_goes_too(harness):
    harness.take("mux", lease_s=0)
    slow = harness.write("mux", 1)
    harness.finish()
    harness.clock.remaining_gpu_s = DAY_S
    harness.sweep()
    assert slow not in harness.stored()
    assert "jobs/a/mux/0002/goods" in harness.stored()


def test_a_playlist_goes_before_what_it_lists(harness, monkeypatch):
    harness.finish()
    harness.clock.remaining_gpu_s = DAY_S
    (found,) = harness.found()
    gone: list[str] = []
    monkeypatch.setattr(harness.context.store, "delete", gone.append)
    found.remove()
    assert gone[0] == keys.playlist("a")


def test_a_cancelled_jobs_goods_go_after_their_time(harness):
    harness.make("download")
    Job(harness.context, "a").cancel()
    harness.clock.remaining_gpu_s = DAY_S
    harness.sweep()
    assert harness.stored() == ["jobs/a/end.json", "jobs/a/request.json"]


def test_a_job_that_goes_on_keeps_its_goods_however_old_it_is(harness):
    harness.make("download")
    harness.clock.remaining_gpu_s = 99 * DAY_S
    assert harness.found() == []


def test_a_job_whose_end_is_not_in_the_store_keeps_its_goods(harness):
    harness.make("download")
    harness.context.registry.jobs.cancel("a", by="the caller")
    harness.clock.remaining_gpu_s = 99 * DAY_S
    assert harness.found() == []


def test_an_expired_job_is_gone_with_every_record(harness):
    harness.finish()
    harness.clock.remaining_gpu_s = 7 * DAY_S
    (found,) = harness.found()
    assert (found.reason, found.name, found.objects) == ("expired", "jobs/a/", 13)
    found.remove()
    assert (harness.stored(), harness.clock.texts, dict(harness.clock.streams)) == ([], {}, {})
    assert (list(harness.context.registry.jobs.newest()), harness.context.registry.jobs.live()) == ([], [])
    with pytest.raises(InvalidInput, match="no such job"):
        harness.context.registry.jobs.status("a")


def test_a_job_never_expires_unless_the_operator_says_so(harness):
    harness.finish()
    settings = harness.context.settings.model_copy(update={"keep_jobs_s": None})
    ctx = Context(settings, harness.context.store, harness.context.registry)
    harness.clock.remaining_gpu_s = 999 * DAY_S
    for each in find_garbage(ctx):
        each.remove()
    assert harness.context.registry.jobs.status("a").state == "success"
    assert any(key.startswith("jobs/a/mux/") for key in harness.stored())


def test_a_job_that_need_not_be_kept_expires_with_its_end(harness):
    harness.finish()
    settings = harness.context.settings.model_copy(update={"keep_jobs_s": 0})
    ctx = Context(settings, harness.context.store, harness.context.registry)
    assert [each.reason for each in find_garbage(ctx)] == ["expired"]


def test_an_idempotency_key_that_another_job_has_meanwhile_stays_its_own(harness):
    harness.finish()
    harness.clock.delete("idempotency:order 66")
    harness.context.registry.jobs.claim_idempotency_key("order 66", "b")
    harness.clock.remaining_gpu_s = 7 * DAY_S
    harness.sweep()
    assert harness.context.registry.jobs.claim_idempotency_key("order 66", "c") == "b"


# Safe at any time


def test_jobs_that_the_broker_has_lost_are_left_alone(harness):
    harness.finish()
    harness.write("generate-0000", 2)
    harness.clock.remaining_gpu_s = 99 * DAY_S
    lost = Context(harness.context.settings, harness.context.store, open_registry("memory://"))
    assert list(find_garbage(lost)) == []


def test_uploads_and_what_jobs_share_are_left_alone(harness):
    harness.context.store.put("uploads/0123", b"face")
    harness.context.store.put("shared/text/0123", b"features")
    harness.finish()
    harness.clock.remaining_gpu_s = 99 * DAY_S
    harness.sweep()
    assert harness.stored() == ["shared/text/0123", "uploads/0123"]


class Dying:
    """A store or ledger that ends the process that uses it, at the nth thing that it shall delete."""

    def __init__(self, whole: Any, counter: list[int]) -> None:
        self._whole, self._counter = whole, counter

    def __getattr__(self, name: str) -> Any:
        if name in ("delete", "unindex"):
            self._counter[0] -= 1
            if self._counter[0] < 0:
                raise KeyboardInterrupt
        return getattr(self._whole, name)


@pytest.mark.parametrize("deletions", range(30))
def test_who_is_interrupted_may_begin_again_and_no_job_comes_back(tmp_path, deletions):
    harness = Harness(open_store("memory://"), tmp_path)
    harness.finish()
    harness.clock.remaining_gpu_s = 7 * DAY_S
    counter = [deletions]
    dying = Context(
        harness.context.settings, Dying(harness.context.store, counter), Registry(Dying(harness.clock, counter))
    )
    try:
        for each in find_garbage(dying):
            each.remove()
    except KeyboardInterrupt:
        for job_id, names in journal.jobs(harness.context.store):
            assert recover(harness.context, job_id, names).outcome != "goes on"
        harness.sweep()
    assert (harness.stored(), harness.clock.texts) == ([], {})
    assert harness.found() == []


# This machine


def test_the_folder_of_a_dead_worker_goes(harness, temporary):
    folder = temporary / "farm-a-0123"
    folder.mkdir()
    (folder / scratch.LOCK).write_bytes(b"")
    (folder / "picture").write_bytes(b"pixels")
    os.utime(folder / scratch.LOCK, (0, 0))
    (found,) = harness.found()
    assert (found.reason, found.name, found.objects, found.bytes) == ("abandoned", str(folder), 1, 6)
    harness.sweep()
    assert not folder.exists()


# The client


def test_a_dry_run_removes_nothing(broker, tmp_path):
    farm = Farm(broker, settings=Settings(home=tmp_path, keep_intermediates_s=0))
    job = farm.submit(REQUEST)
    farm.context.store.put(keys.attempt(job.id, FIRST.id, 1, "goods"), b"goods")
    job.cancel()
    assert [each.reason for each in farm.gc(dry_run=True)] == ["intermediate"]
    assert [each.reason for each in farm.gc()] == ["intermediate"]
    assert list(farm.gc()) == []
