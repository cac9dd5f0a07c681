"""The metrics of a worker and its children since its start; the children's come through a pipe.

So there are no files, nothing is lost with a child that dies, and nothing of it remains.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from farm.metrics import METRICS, Listener, Metric

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class WorkerMetrics:
    """Every metric of source `worker`, in `registry`. Create it before the children are forked."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, disable_created_metrics

        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client's has none
        self.registry = CollectorRegistry()
        self._metrics = {
            metric.name: _create(metric, self.registry)
            for metric in METRICS
            if metric.source == "worker"
        }
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self.write_end, False)
        self.send = sender(self.write_end)

    def collect_forever(self) -> None:
        """Adds up what comes through the pipe."""
        with open(self._read_end, "rb") as lines:
            for line in lines:
                name, value, labels = json.loads(line)
                _record(self._metrics[name], value, labels)


def sender(write_end: int) -> Listener:
    """Sends values to the worker at the other end of its pipe."""

    def send(name: str, value: float, labels: Mapping[str, str]) -> None:
        line = json.dumps([name, value, labels]).encode() + b"\n"
        # A line this short is written at once (PIPE_BUF). If the worker does not read, a value is
        # lost, and the step goes on.
        with suppress(BlockingIOError):
            os.write(write_end, line)

    return send


def _create(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    from prometheus_client import Counter, Gauge, Histogram

    labels = list(metric.labels)
    created: Counter | Gauge | Histogram
    if metric.kind == "counter":
        created = Counter(metric.name, metric.help, labels, registry=registry)
    elif metric.kind == "gauge":
        created = Gauge(metric.name, metric.help, labels, registry=registry)
    else:
        created = Histogram(
            metric.name, metric.help, labels, registry=registry, buckets=metric.buckets
        )
    if labels:
        for values in metric.series():
            created.labels(*values)
    return created


def _record(metric: Counter | Gauge | Histogram, value: float, labels: dict[str, str]) -> None:
    from prometheus_client import Counter, Gauge

    child = metric.labels(**labels) if labels else metric
    if isinstance(child, Counter):
        child.inc(value)
    elif isinstance(child, Gauge):
        child.set(value)
    else:
        child.observe(value)
