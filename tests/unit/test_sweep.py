"""What `farm gc` removes, and above all what it leaves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from farm.client import Farm, Job
from farm.errors import InvalidInput
from farm.job import JobRequest, Result
from farm.registry import Registry, open_registry
from farm.registry.memory import MemoryLedger
from farm.settings import Settings
from farm.steps import archive, scratch
from farm.steps.place import Place
from farm.steps.recover import recover
from farm.steps.route import FIRST
from farm.steps.sweep import Waste, waste
from farm.store import Store, keys, open_store

REQUEST = JobRequest(
    prompt="x",
    cond_video="https://example.org/face.png",
    cond_audio={"person1": "https://example.org/voice.wav"},
    idempotency_key="order 66",
)
PRODUCTS = ["download", "embed", "generate-0000", "generate-0001", "mux"]
DAY_S = 86400


class Clock(MemoryLedger):
    """A ledger whose clock a test can put forward."""

    ahead_s = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_s


class Bench:
    """A place with one job, `a`, and what may happen to it."""

    def __init__(self, store: Store, home: Path) -> None:
        self.clock = Clock()
        self.place = Place(Settings(home=home, keep_jobs_s=7 * DAY_S), store, Registry(self.clock))
        archive.enter(self.place, "a", REQUEST)
        self.place.registry.claim("order 66", "a")
        self.place.registry.add("a", REQUEST)

    def take(self, product: str, *, lease_s: float = 60) -> Any:
        return self.place.registry.take("a", product, lease_s=lease_s, max_attempts=99)

    def write(self, product: str, number: int, name: str = "goods", content: bytes = b"0123456789") -> str:
        key = keys.attempt("a", product, number, name)
        self.place.store.put(key, content)
        return key

    def make(self, product: str, **goods: Any) -> Any:
        """Makes a product as a worker does; its lease."""
        lease = self.take(product)
        self.write(product, lease.fence)
        self.write(product, lease.fence, keys.GOODS)
        assert self.place.registry.commit(lease, {"attempt": lease.fence, **goods})
        return lease

    def finish(self) -> None:
        for product in PRODUCTS:
            self.make(product, chunks=2, links={"init": "i", "segment": "s"}, frames=81, result={})
        self.place.registry.end("a", "success", Result(job_id="a", status="success"))
        archive.close(self.place, "a")

    def stored(self) -> list[str]:
        return list(self.place.store.keys(""))

    def found(self) -> list[Waste]:
        return list(waste(self.place))

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
def bench(store: Store, tmp_path: Path) -> Bench:
    return Bench(store, tmp_path)


# Attempts


def test_an_attempt_that_was_overtaken_goes_and_the_one_that_counts_stays(bench):
    bench.take("generate-0000", lease_s=0)
    slow = bench.write("generate-0000", 1)
    bench.make("generate-0000")
    (found,) = bench.found()
    assert (found.reason, found.name) == ("overtaken", "jobs/a/generate-0000/0001/")
    assert (found.objects, found.bytes) == (1, 10)
    before = bench.stored()
    found.remove()
    assert bench.stored() == [key for key in before if key != slow]
    assert bench.found() == []


def test_nothing_goes_before_it_is_removed(bench):
    bench.take("generate-0000", lease_s=0)
    bench.write("generate-0000", 1)
    bench.make("generate-0000")
    before = bench.stored()
    bench.found()
    assert bench.stored() == before


@pytest.mark.parametrize("lease_s", [60, 0], ids=["alive", "silent"])
def test_an_attempt_that_may_still_hand_in_stays(bench, lease_s):
    bench.take("generate-0000", lease_s=lease_s)
    bench.write("generate-0000", 1)
    assert bench.found() == []


def test_an_attempt_goes_as_soon_as_another_has_the_lease(bench):
    bench.take("generate-0000", lease_s=0)
    bench.write("generate-0000", 1)
    bench.take("generate-0000")
    bench.write("generate-0000", 2)
    assert [each.name for each in bench.found()] == ["jobs/a/generate-0000/0001/"]


def test_an_attempt_under_a_product_that_nobody_took_stays(bench):
    bench.write("generate-0000", 1)
    assert bench.found() == []


def test_an_attempt_of_before_a_recovery_goes_once_its_product_is_made_again(bench):
    bench.write("generate-0000", 1)
    bench.place.registry.remember("a", "generate-0000", fence=1000)
    assert [each.name for each in bench.found()] == ["jobs/a/generate-0000/0001/"]
    bench.make("generate-0000")
    late = bench.write("generate-0000", 99_999)
    bench.sweep()
    assert late not in bench.stored()
    assert bench.write("generate-0000", 1001) in bench.stored()
    assert bench.found() == []


def test_an_attempt_that_is_half_removed_is_never_taken_for_a_whole_one(bench, monkeypatch):
    bench.take("generate-0000", lease_s=0)
    for name in ("a", keys.GOODS, "z"):
        bench.write("generate-0000", 1, name)
    bench.make("generate-0000")
    (found,) = bench.found()
    gone: list[str] = []
    monkeypatch.setattr(bench.place.store, "delete", gone.append)
    found.remove()
    assert [key.rpartition("/")[2] for key in gone] == [keys.GOODS, "a", "z"]


# Jobs that have ended


def test_a_finished_job_is_left_alone_for_its_time(bench):
    bench.finish()
    bench.clock.ahead_s = DAY_S - 60
    assert bench.found() == []


def test_what_a_video_was_made_of_goes_after_its_time_and_the_video_stays(bench):
    bench.finish()
    playlist = keys.playlist("a")
    assert playlist in bench.stored()
    bench.clock.ahead_s = DAY_S
    (found,) = bench.found()
    assert (found.reason, found.name, found.objects) == ("intermediate", "jobs/a/", 9)
    size = sum(bench.place.store.size(key) for key in bench.stored())
    found.remove()
    assert found.bytes == size - sum(bench.place.store.size(key) for key in bench.stored())
    assert bench.stored() == [
        "jobs/a/end.json",
        "jobs/a/mux/0001/goods",
        "jobs/a/mux/0001/goods.json",
        "jobs/a/request.json",
    ]
    assert bench.found() == []


def test_an_attempt_at_the_video_that_was_overtaken_goes_too(bench):
    bench.take("mux", lease_s=0)
    slow = bench.write("mux", 1)
    bench.finish()
    bench.clock.ahead_s = DAY_S
    bench.sweep()
    assert slow not in bench.stored()
    assert "jobs/a/mux/0002/goods" in bench.stored()


def test_a_playlist_goes_before_what_it_lists(bench, monkeypatch):
    bench.finish()
    bench.clock.ahead_s = DAY_S
    (found,) = bench.found()
    gone: list[str] = []
    monkeypatch.setattr(bench.place.store, "delete", gone.append)
    found.remove()
    assert gone[0] == keys.playlist("a")


def test_a_cancelled_jobs_goods_go_after_their_time(bench):
    bench.make("download")
    Job(bench.place, "a").cancel()
    bench.clock.ahead_s = DAY_S
    bench.sweep()
    assert bench.stored() == ["jobs/a/end.json", "jobs/a/request.json"]


def test_a_job_that_goes_on_keeps_its_goods_however_old_it_is(bench):
    bench.make("download")
    bench.clock.ahead_s = 99 * DAY_S
    assert bench.found() == []


def test_a_job_whose_end_is_not_in_the_store_keeps_its_goods(bench):
    bench.make("download")
    bench.place.registry.cancel("a", by="the caller")
    bench.clock.ahead_s = 99 * DAY_S
    assert bench.found() == []


def test_an_expired_job_is_gone_with_every_record(bench):
    bench.finish()
    bench.clock.ahead_s = 7 * DAY_S
    (found,) = bench.found()
    assert (found.reason, found.name, found.objects) == ("expired", "jobs/a/", 13)
    found.remove()
    assert (bench.stored(), bench.clock.texts, dict(bench.clock.streams)) == ([], {}, {})
    assert (list(bench.place.registry.jobs()), bench.place.registry.live()) == ([], [])
    with pytest.raises(InvalidInput, match="no such job"):
        bench.place.registry.job("a")


def test_a_job_never_expires_unless_the_operator_says_so(bench):
    bench.finish()
    settings = bench.place.settings.model_copy(update={"keep_jobs_s": None})
    place = Place(settings, bench.place.store, bench.place.registry)
    bench.clock.ahead_s = 999 * DAY_S
    for each in waste(place):
        each.remove()
    assert bench.place.registry.job("a").state == "success"
    assert any(key.startswith("jobs/a/mux/") for key in bench.stored())


def test_a_job_that_need_not_be_kept_expires_with_its_end(bench):
    bench.finish()
    settings = bench.place.settings.model_copy(update={"keep_jobs_s": 0})
    place = Place(settings, bench.place.store, bench.place.registry)
    assert [each.reason for each in waste(place)] == ["expired"]


def test_an_idempotency_key_that_another_job_has_meanwhile_stays_its_own(bench):
    bench.finish()
    bench.clock.delete("idempotency:order 66")
    bench.place.registry.claim("order 66", "b")
    bench.clock.ahead_s = 7 * DAY_S
    bench.sweep()
    assert bench.place.registry.claim("order 66", "c") == "b"


# Safe at any time


def test_jobs_that_the_broker_has_lost_are_left_alone(bench):
    bench.finish()
    bench.write("generate-0000", 2)
    bench.clock.ahead_s = 99 * DAY_S
    lost = Place(bench.place.settings, bench.place.store, open_registry("memory://"))
    assert list(waste(lost)) == []


def test_uploads_and_what_jobs_share_are_left_alone(bench):
    bench.place.store.put("uploads/0123", b"face")
    bench.place.store.put("shared/text/0123", b"features")
    bench.finish()
    bench.clock.ahead_s = 99 * DAY_S
    bench.sweep()
    assert bench.stored() == ["shared/text/0123", "uploads/0123"]


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
    bench = Bench(open_store("memory://"), tmp_path)
    bench.finish()
    bench.clock.ahead_s = 7 * DAY_S
    counter = [deletions]
    dying = Place(bench.place.settings, Dying(bench.place.store, counter), Registry(Dying(bench.clock, counter)))
    try:
        for each in waste(dying):
            each.remove()
    except KeyboardInterrupt:
        for job_id, names in archive.jobs(bench.place.store):
            assert recover(bench.place, job_id, names).outcome != "goes on"
        bench.sweep()
    assert (bench.stored(), bench.clock.texts) == ([], {})
    assert bench.found() == []


# This machine


def test_the_folder_of_a_dead_worker_goes(bench, temporary):
    folder = temporary / "farm-a-0123"
    folder.mkdir()
    (folder / scratch.LOCK).write_bytes(b"")
    (folder / "picture").write_bytes(b"pixels")
    os.utime(folder / scratch.LOCK, (0, 0))
    (found,) = bench.found()
    assert (found.reason, found.name, found.objects, found.bytes) == ("abandoned", str(folder), 1, 6)
    bench.sweep()
    assert not folder.exists()


# The client


def test_a_dry_run_removes_nothing(broker, tmp_path):
    farm = Farm(broker, settings=Settings(home=tmp_path, keep_intermediates_s=0))
    job = farm.submit(REQUEST)
    farm.place.store.put(keys.attempt(job.id, FIRST.product, 1, "goods"), b"goods")
    job.cancel()
    assert [each.reason for each in farm.gc(dry_run=True)] == ["intermediate"]
    assert [each.reason for each in farm.gc()] == ["intermediate"]
    assert list(farm.gc()) == []
