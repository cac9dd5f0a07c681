"""The catalogue of metrics, and adding to them."""

from __future__ import annotations

from itertools import pairwise

import pytest

from farm.metrics import CODES, DUPLICATE, METRICS, QUEUE, STEP, STEPS, add, listen, steps_class
from farm.queue.app import TASK_ROUTES
from farm.queue.brokers.redis import MESSAGE_PRIORITIES
from farm.route import STEP_SPECS


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_name_follows_the_conventions_of_prometheus(metric):
    assert metric.name.startswith("farm_")
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.kind != "histogram" or metric.name.endswith("_seconds")


def test_names_are_unique():
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_no_label_contains_a_job_id():
    labels = {label for metric in METRICS for label in metric.labels}
    assert labels == {
        "step",
        "queue",
        "priority",
        "model",
        "size",
        "steps",
        "reason",
        "resource",
        "outcome",
        "code",
        "route",
        "status",
    }


def test_label_values_match_the_rest_of_the_farm():
    assert set(QUEUE["queue"]) == {*TASK_ROUTES.values(), "downloads", "gpu-local", "bridge"}
    assert set(QUEUE["priority"]) == set(MESSAGE_PRIORITIES)
    assert STEP["step"] == DUPLICATE["step"] == tuple(STEP_SPECS)
    assert {"E_WORKER_LOST", "E_INTERNAL", "E_TIMEOUT"} <= set(CODES)


def test_known_series_are_all_combinations_of_label_values():
    by_name = {metric.name: metric for metric in METRICS}
    lengths = list(by_name["farm_queue_length"].series())
    assert len(lengths) == len(QUEUE["queue"]) * len(MESSAGE_PRIORITIES)
    assert list(by_name["farm_chunk_seconds"].series()) == []


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, "1-4"),
        (4, "1-4"),
        (5, "5-8"),
        (8, "5-8"),
        (9, "9-16"),
        (40, "26-40"),
        (41, "41-1000"),
        (1000, "41-1000"),
    ],
)
def test_a_number_of_denoise_steps_has_a_class(steps, expected):
    assert steps_class(steps) == expected


def test_the_classes_of_denoise_steps_have_no_gaps():
    bounds = [tuple(map(int, name.split("-"))) for name in STEPS.values()]
    assert [high for _, high in bounds] == list(STEPS)
    assert all(low == before + 1 for (_, before), (low, _) in pairwise(bounds))


def test_values_are_passed_to_listeners():
    received = []
    listen(lambda *value: received.append(value))
    add("farm_frames_total", 5, model="miniature", size="infinitetalk-480")
    assert received == [
        ("farm_frames_total", 5, {"model": "miniature", "size": "infinitetalk-480"})
    ]
