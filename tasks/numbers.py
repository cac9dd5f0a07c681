"""A worker's numbers for Prometheus: its children tell theirs through a pipe, itself adds them up and serves them."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from socketserver import BaseServer
from typing import TYPE_CHECKING, Any

from celery.signals import worker_init, worker_process_init, worker_ready

from farm import metrics
from farm.metrics import METRICS, SECONDS, Metric
from farm.telemetry import log
from tasks import settings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Histogram


class Sums:
    """What this worker and its children have counted since it started: no file, and nothing is lost with a child."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, disable_created_metrics

        disable_created_metrics()
        self.registry = CollectorRegistry()
        self.metrics = {each.name: _made(each, self.registry) for each in METRICS if each.told_by == "worker"}
        self.outlet, self.inlet = os.pipe()
        os.set_blocking(self.inlet, False)

    def tell(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Sends one number to the worker; so short a line is written whole, whoever else writes (PIPE_BUF)."""
        with suppress(BlockingIOError):  # a worker that does not read misses a number; the work goes on
            os.write(self.inlet, json.dumps([name, value, labels]).encode() + b"\n")

    def add_up(self) -> None:
        """Adds what comes through the pipe, for ever."""
        with open(self.outlet, "rb") as lines:
            for line in lines:
                name, value, labels = json.loads(line)
                _enter(self.metrics[name], value, labels)


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
    one.inc(value) if isinstance(one, Counter) else one.observe(value)


_sums: list[Sums] = []
_servers: list[BaseServer] = []


@worker_init.connect
def _open(**_: Any) -> None:
    """Before any child is there, so that all of them have the pipe."""
    if settings.metrics_at:
        _sums.append(Sums())
        metrics.listen(_sums[0].tell)


@worker_ready.connect
def _serve(**_: Any) -> None:
    """After the first children were forked; a worker whose port is taken works all the same, and says so."""
    if settings.metrics_at and _sums:
        from farm.exporter import serve

        threading.Thread(target=_sums[0].add_up, name="numbers", daemon=True).start()
        try:
            _servers.append(serve(_sums[0].registry, settings.metrics_at))
        except OSError as error:
            log("numbers_not_served", address=settings.metrics_address, reason=str(error))


@worker_process_init.connect
def _close(**_: Any) -> None:
    """A child that outlives its worker must not hold the port."""
    for server in _servers:
        server.socket.close()
