"""The metrics of a worker, to which its child processes contribute."""

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
def metrics() -> WorkerMetrics:
    """Metrics that are collected while the test runs."""
    metrics = WorkerMetrics()
    threading.Thread(target=metrics.collect_forever, daemon=True).start()
    return metrics


def value(metrics: WorkerMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def becomes(current: Callable[[], float | None], expected: float) -> bool:
    deadline = time.monotonic() + 10
    while current() != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    return current() == expected


def child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def test_counts_of_several_children_are_added_up(metrics):
    def work() -> None:
        for _ in range(100):
            metrics.send("farm_retries_total", 1, {"step": "embed"})

    for pid in [child(work) for _ in range(3)]:
        os.waitpid(pid, 0)
    assert becomes(lambda: value(metrics, "farm_retries_total", step="embed"), 300)


def test_counts_of_a_killed_child_are_kept(metrics):
    def work() -> None:
        metrics.send("farm_gpu_busy_seconds_total", 2.5, {})
        os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(child(work), 0)
    assert becomes(lambda: value(metrics, "farm_gpu_busy_seconds_total"), 2.5)


def test_a_gauge_has_its_last_value(metrics):
    for cards in (1, 4):
        metrics.send("farm_gpus", cards, {})
    assert becomes(lambda: value(metrics, "farm_gpus"), 4)


def test_seconds_are_counted_in_buckets(metrics):
    metrics.send("farm_model_load_seconds", 7, {})
    assert becomes(lambda: value(metrics, "farm_model_load_seconds_count"), 1)
    assert [
        value(metrics, "farm_model_load_seconds_bucket", le=le) for le in ("5.0", "10.0", "+Inf")
    ] == [0, 1, 1]
    assert value(metrics, "farm_model_load_seconds_sum") == 7


def test_unforeseen_label_values_create_a_series(metrics):
    metrics.send("farm_frames_total", 9, {"model": "miniature", "size": "infinitetalk-480"})
    assert becomes(
        lambda: value(metrics, "farm_frames_total", model="miniature", size="infinitetalk-480"), 9
    )


def test_known_series_start_at_0(metrics):
    assert value(metrics, "farm_expired_leases_total", step="mux") == 0
    assert value(metrics, "farm_duplicates_total", step="mux", reason="leased") == 0


def test_every_worker_metric_exists(metrics):
    names = {each.name for each in metrics.registry.collect()}
    assert names == {
        each.name.removesuffix("_total") for each in METRICS if each.source == "worker"
    }


def test_sending_does_not_block_if_the_worker_does_not_read():
    unread = WorkerMetrics()
    start = time.monotonic()
    for _ in range(5_000):
        unread.send("farm_retries_total", 1, {"step": "embed"})
    assert time.monotonic() - start < 10
