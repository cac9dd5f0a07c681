"""The exporter: the farm's metrics, read from the registry and the broker at each scrape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import redis

from farm.errors import FarmError
from farm.logs import log
from farm.metrics import CODES, METRICS, Metric
from farm.net.address import ListenAddress
from farm.queue.inspect import (
    QueueState,
    broker_of,
    count_dead_letters,
    queue_states,
)
from farm.registry import farm_registry
from farm.registry.redis import RedisBackend
from farm.registry.statistics import Statistics, read_statistics
from farm.route import QUEUES, STEP_KINDS
from farm.settings import Settings

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from prometheus_client.core import Metric as Family
    from prometheus_client.registry import Collector

Samples = dict[tuple[str, ...], float]
"""The values of a metric by the values of its labels."""


def serve(collector: Collector, address: ListenAddress) -> WSGIServer:
    """Serves metrics at http://HOST:PORT/metrics from a thread; OSError if the port is taken."""
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(collector)
    server, _ = start_http_server(address.port, address.host, registry)
    return server


def exposition(collector: Collector) -> str:
    """Metrics in Prometheus' text format."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()


class FarmCollector:
    """Every metric of source `exporter`; while the broker is down only that it is."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.registry = farm_registry(settings)

    def collect(self) -> Iterator[Family]:
        try:
            samples = self._read()
        except (FarmError, redis.RedisError) as error:
            log("metrics_unavailable", reason=str(error))
            samples = {"farm_broker_up": {(): 0.0}}
        for metric in METRICS:
            if metric.source == "exporter":
                yield family(metric, samples.get(metric.name, {}))

    def _read(self) -> dict[str, Samples]:
        statistics = read_statistics(self.registry, lease_s=self.settings.lease_s)
        samples = _samples_of(statistics)
        broker = broker_of(self.registry)
        if broker is not None:
            samples |= _broker_samples(broker.redis)
            samples |= self._queue_samples(broker)
        return samples

    def _queue_samples(self, broker: RedisBackend) -> dict[str, Samples]:
        states, unacked = queue_states(broker)
        return {
            "farm_queue_length": {name: state.length for name, state in states.items()},
            "farm_queue_oldest_seconds": {
                name: self._oldest_s(state) for name, state in states.items()
            },
            "farm_unacked_messages": {(): unacked},
            "farm_dead_letters": {(): count_dead_letters(broker)},
        }

    def _oldest_s(self, state: QueueState) -> float:
        """Seconds since the first of the oldest messages was dispatched; 0 without any."""
        dispatched_at = self.registry.steps.dispatched_at(state.oldest)
        now = self.registry.now()
        return max((now - at for at in dispatched_at if at is not None), default=0.0)


def _samples_of(now: Statistics) -> dict[str, Samples]:
    none_ended: Samples = {("success", ""): 0, ("cancelled", "E_CANCELLED"): 0}
    none_ended |= {("error", code): 0 for code in CODES}
    return {
        "farm_broker_up": {(): 1},
        "farm_workers": {(queue,): now.workers[queue] for queue in QUEUES},
        "farm_live_jobs": {(): now.live},
        "farm_orphaned_jobs": {(): now.orphaned},
        "farm_running_steps": {(kind,): now.running[kind] for kind in STEP_KINDS},
        "farm_runnable_jobs": {(): now.runnable},
        "farm_unknown_length_jobs": {(): now.unknown_length},
        "farm_estimated_gpu_seconds": {(): now.remaining_gpu_s},
        "farm_estimated_wait_seconds": {(): now.wait_s},
        "farm_jobs_total": none_ended | now.ended,
    }


def _broker_samples(client: redis.Redis) -> dict[str, Samples]:
    info: dict[str, Any] = client.info("everything")
    aof_ok = info["aof_enabled"] and info["aof_last_write_status"] == "ok"
    return {
        "farm_broker_aof_ok": {(): int(aof_ok)},
        "farm_broker_memory_bytes": {(): info["used_memory"]},
        "farm_broker_evicted_keys_total": {(): info["evicted_keys"]},
    }


def family(metric: Metric, samples: Samples) -> Family:
    """A metric with its values, for prometheus_client."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=list(metric.labels))
    for labels, value in samples.items():
        family.add_metric(labels, value)
    return family
