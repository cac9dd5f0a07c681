"""A worker's sums: what its children count reaches them, whatever becomes of the children."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from farm.metrics import METRICS
from farm.monitoring.worker_metrics import WorkerMetrics


@pytest.fixture
def sums() -> WorkerMetrics:
    """Sums that are added up while the test runs."""
    sums = WorkerMetrics()
    threading.Thread(target=sums.add_up, daemon=True).start()
    return sums


def value(sums: WorkerMetrics, name: str, **labels: str) -> float | None:
    return sums.registry.get_sample_value(name, labels)


def becomes(what: Callable[[], float | None], wanted: float) -> bool:
    deadline = time.monotonic() + 10
    while what() != wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    return what() == wanted


def child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def test_what_children_count_is_added_up(sums):
    def work() -> None:
        for _ in range(100):
            sums.tell("farm_retries_total", 1, {"station": "embed"})

    for pid in [child(work) for _ in range(3)]:
        os.waitpid(pid, 0)
    assert becomes(lambda: value(sums, "farm_retries_total", kind="embed"), 300)


def test_what_a_killed_child_has_counted_stays(sums):
    def work() -> None:
        sums.tell("farm_gpu_busy_seconds_total", 2.5, {})
        os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(child(work), 0)
    assert becomes(lambda: value(sums, "farm_gpu_busy_seconds_total"), 2.5)


def test_seconds_are_entered_into_buckets(sums):
    sums.tell("farm_cold_load_seconds", 7, {})
    assert becomes(lambda: value(sums, "farm_cold_load_seconds_count"), 1)
    assert [value(sums, "farm_cold_load_seconds_bucket", le=le) for le in ("5.0", "10.0", "+Inf")] == [0, 1, 1]
    assert value(sums, "farm_cold_load_seconds_sum") == 7


def test_labels_that_nobody_foresaw_make_a_series(sums):
    sums.tell("farm_frames_total", 9, {"size": "infinitetalk-480"})
    assert becomes(lambda: value(sums, "farm_frames_total", size="infinitetalk-480"), 9)


def test_series_that_are_known_begin_at_nothing(sums):
    assert value(sums, "farm_lease_losses_total", kind="mux") == 0
    assert value(sums, "farm_duplicates_total", kind="mux", found="held") == 0


def test_every_metric_of_a_worker_is_there(sums):
    told = {each.name for each in sums.registry.collect()}
    assert told == {each.name.removesuffix("_total") for each in METRICS if each.source == "worker"}


def test_a_worker_that_does_not_read_holds_nobody_up():
    unread = WorkerMetrics()
    began = time.monotonic()
    for _ in range(5_000):
        unread.tell("farm_retries_total", 1, {"station": "embed"})
    assert time.monotonic() - began < 10
