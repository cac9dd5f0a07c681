"""The exporter: the farm's metrics, read from the registry and the broker at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import redis

from farm.engine.context import open_context
from farm.errors import FarmError
from farm.logs import log
from farm.metrics import CODES, METRICS, Metric
from farm.net.address import ListenAddress
from farm.queue.brokers import open_broker
from farm.queue.brokers.broker import QueueState, StepOfJob
from farm.queue.brokers.redis import aof_is_ok
from farm.queue.dead_letters import count_dead_letters, require_redis
from farm.queue.waiting import oldest_waits
from farm.registry.statistics import Statistics, read_statistics
from farm.route import QUEUES, STEP_KINDS, Queue
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
    """Every metric of source `exporter`; of a broker or a registry that is down only that it is."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.context = open_context(settings)
        self.broker = open_broker(settings)

    def collect(self) -> Iterator[Family]:
        samples: dict[str, Samples] = {}
        if self.settings.has_own_registry:
            samples |= _or_down("farm_registry_up", self._registry_samples)
        samples |= _or_down("farm_broker_up", self._broker_samples)
        if samples["farm_broker_up"][()] or self.settings.has_own_registry:
            samples |= _or_nothing(self._job_samples)
        for metric in METRICS:
            if metric.source == "exporter":
                yield family(metric, samples.get(metric.name, {}))

    def _job_samples(self) -> dict[str, Samples]:
        registry = self.context.registry
        statistics = read_statistics(registry, lease_s=self.settings.lease_s)
        letters: Samples = {(): count_dead_letters(registry)}
        return _samples_of(statistics) | {"farm_dead_letters": letters}

    def _registry_samples(self) -> dict[str, Samples]:
        """Those of a registry that is not the broker."""
        info: dict[str, Any] = require_redis(self.context.registry).redis.info("everything")
        return {
            "farm_registry_up": {(): 1},
            "farm_registry_aof_ok": {(): int(aof_is_ok(info))},
            "farm_registry_memory_bytes": {(): info["used_memory"]},
            "farm_registry_evicted_keys_total": {(): info["evicted_keys"]},
        }

    def _broker_samples(self) -> dict[str, Samples]:
        """What the broker tells; what it cannot tell is absent, not 0."""
        state = self.broker.state()
        if state.problem:
            log("metrics_unavailable", reason=state.problem)
        figures = {
            "farm_broker_up": 1,
            "farm_broker_aof_ok": state.aof_ok,
            "farm_broker_memory_bytes": state.memory_bytes,
            "farm_broker_evicted_keys_total": state.evicted_keys,
            "farm_unacked_messages": state.unacked,
        }
        known: dict[str, Samples] = {
            name: {(): float(value)} for name, value in figures.items() if value is not None
        }
        known["farm_broker_alarm"] = {(name,): int(on) for name, on in state.alarms.items()}
        known["farm_queue_length"] = {name: queue.length for name, queue in state.queues.items()}
        return known | _or_nothing(partial(self._oldest, state.queues))

    def _oldest(self, queues: Mapping[tuple[Queue, str], QueueState]) -> dict[str, Samples]:
        """Seconds since the dispatch of the oldest message, by the registry."""
        waits: Samples
        if any(state.oldest is None for state in queues.values()):
            waits = oldest_waits(self.context)
        else:
            waits = {name: self._oldest_s(state.oldest or []) for name, state in queues.items()}
        return {"farm_queue_oldest_seconds": waits}

    def _oldest_s(self, oldest: list[StepOfJob]) -> float:
        """Seconds since the first of the oldest messages was dispatched; 0 without any."""
        registry = self.context.registry
        dispatched_at = registry.steps.dispatched_at(oldest)
        now = registry.now()
        return max((now - at for at in dispatched_at if at is not None), default=0.0)


def _or_down(name: str, read: Callable[[], dict[str, Samples]]) -> dict[str, Samples]:
    """The samples that are read; if the service does not answer only the metric that is 0 then."""
    return _or_nothing(read) or {name: {(): 0.0}}


def _or_nothing(read: Callable[[], dict[str, Samples]]) -> dict[str, Samples]:
    try:
        return read()
    except (FarmError, redis.RedisError) as error:
        log("metrics_unavailable", reason=str(error))
        return {}


def _samples_of(now: Statistics) -> dict[str, Samples]:
    none_ended: Samples = {("success", ""): 0, ("cancelled", "E_CANCELLED"): 0}
    none_ended |= {("error", code): 0 for code in CODES}
    return {
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


def family(metric: Metric, samples: Samples) -> Family:
    """A metric with its values, for prometheus_client."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=list(metric.labels))
    for labels, value in samples.items():
        family.add_metric(labels, value)
    return family
