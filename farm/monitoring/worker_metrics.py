"""What a worker and its children have counted since it started: theirs comes through a pipe.

So there is no file, nothing is lost with a child that dies, and nothing of it stays.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from farm.metrics import METRICS, SECONDS, Metric

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Histogram


class Sums:
    """All metrics that a worker tells, in `registry`; to be made before the children are."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, disable_created_metrics

        disable_created_metrics()  # type: ignore[no-untyped-call]  # theirs has no types
        self.registry = CollectorRegistry()
        self._metrics = {each.name: _made(each, self.registry) for each in METRICS if each.told_by == "worker"}
        self._outlet, self._inlet = os.pipe()
        os.set_blocking(self._inlet, False)

    def tell(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Sends one number to the worker; so short a line is written whole, whoever else writes (PIPE_BUF)."""
        with suppress(BlockingIOError):  # if the worker does not read, a number is missed; the work goes on
            os.write(self._inlet, json.dumps([name, value, labels]).encode() + b"\n")

    def add_up(self) -> None:
        """Adds what comes through the pipe, for ever."""
        with open(self._outlet, "rb") as lines:
            for line in lines:
                name, value, labels = json.loads(line)
                _enter(self._metrics[name], value, labels)


def _made(metric: Metric, registry: CollectorRegistry) -> Counter | Histogram:
    from prometheus_client import Counter, Histogram

    made: Counter | Histogram
    if metric.kind == "counter":
        made = Counter(metric.name, metric.help, list(metric.labels), registry=registry)
    else:
        made = Histogram(metric.name, metric.help, list(metric.labels), registry=registry, buckets=SECONDS)
    for values in metric.series() if metric.labels else ():
        made.labels(*values)
    return made


def _enter(metric: Counter | Histogram, value: float, labels: dict[str, str]) -> None:
    from prometheus_client import Counter

    one = metric.labels(**labels) if labels else metric
    if isinstance(one, Counter):
        one.inc(value)
    else:
        one.observe(value)
