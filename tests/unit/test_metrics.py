"""The list of all numbers, and what adds to them."""

from __future__ import annotations

from itertools import pairwise

import pytest

from farm.engine.journal import STEP_KINDS as STEP_STATIONS
from farm.metrics import CODES, METRICS, PRIORITIES, QUEUES, STEP_KINDS, STEPS, add, listen, steps_class
from farm.queue.app import TASK_ROUTES
from farm.queue.app import PRIORITIES as APP_PRIORITIES


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_name_follows_prometheus_rules(metric):
    assert metric.name.startswith("farm_")
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.kind != "histogram" or metric.name.endswith("_seconds")


def test_every_name_stands_once():
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_no_label_names_a_job():
    labels = {label for metric in METRICS for label in metric.labels}
    assert labels == {"station", "queue", "priority", "size", "steps", "found", "outcome", "code"}


def test_the_values_of_labels_are_those_of_the_farm():
    assert set(QUEUES) == {desk.queue for desk in TASK_ROUTES.values()}
    assert set(PRIORITIES) == set(APP_PRIORITIES)
    assert STEP_KINDS == STEP_STATIONS
    assert {"E_WORKER_LOST", "E_INTERNAL", "E_TIMEOUT"} <= set(CODES)


def test_series_that_are_known_are_all_ways_of_their_labels():
    by_name = {metric.name: metric for metric in METRICS}
    assert len(list(by_name["farm_queue_length"].series())) == len(QUEUES) * len(PRIORITIES)
    assert list(by_name["farm_chunk_seconds"].series()) == []


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(1, "1-4"), (4, "1-4"), (5, "5-8"), (8, "5-8"), (9, "9-16"), (40, "26-40"), (41, "41-1000"), (1000, "41-1000")],
)
def test_denoise_steps_have_a_class(steps, expected):
    assert steps_class(steps) == expected


def test_the_classes_of_denoise_steps_leave_no_gap():
    bounds = [tuple(map(int, name.split("-"))) for name in STEPS.values()]
    assert [high for _, high in bounds] == list(STEPS)
    assert all(low == before + 1 for (_, before), (low, _) in pairwise(bounds))


def test_a_number_is_told_to_who_listens():
    heard = []
    listen(lambda *number: heard.append(number))
    add("farm_frames_total", 5, size="infinitetalk-480")
    assert heard == [("farm_frames_total", 5, {"size": "infinitetalk-480"})]
