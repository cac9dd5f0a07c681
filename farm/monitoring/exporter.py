"""The farm's numbers for Prometheus: looked up in the registry and the broker whenever somebody asks, and served."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import redis

from farm.errors import FarmError
from farm.logs import log
from farm.metrics import CODES, METRICS, QUEUES, STEP_KINDS, Metric
from farm.net.address import Address
from farm.queue.inspect import KEYS, ticket
from farm.registry import open_registry
from farm.registry.redis import RedisLedger
from farm.registry.statistics import Census, census
from farm.settings import Settings

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from prometheus_client.core import Metric as Family
    from prometheus_client.registry import Collector

FIRST_OUT = 5
"""Messages at a queue's end that are looked at: one of the reaper's rounds may be before the first ticket."""

Samples = dict[tuple[str, ...], float]
"""A number by the values of its labels."""


def serve(numbers: Collector, address: Address) -> WSGIServer:
    """Serves numbers at http://HOST:PORT/metrics from a thread; OSError if that cannot be."""
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(numbers)
    server, _ = start_http_server(address.port, address.host, registry)
    return server


def text(numbers: Collector) -> str:
    """The numbers as Prometheus reads them."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(numbers)
    return generate_latest(registry).decode()


class FarmNumbers:
    """All metrics that the farm tells; while the broker is away only that it is."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.registry = open_registry(settings.broker_address)

    def collect(self) -> Iterator[Family]:
        try:
            found = self._look()
        except (FarmError, redis.RedisError) as error:
            log("numbers_not_known", reason=str(error))
            found = {"farm_broker_up": {(): 0.0}}
        for metric in METRICS:
            if metric.told_by == "farm":
                yield _family(metric, found.get(metric.name, {}))

    def _look(self) -> dict[str, Samples]:
        ledger = self.registry.ledger
        found = _counted(census(self.registry, lease_s=self.settings.lease_s))
        if isinstance(ledger, RedisLedger):
            found |= _broker(ledger.redis) | self._queues(ledger)
        return found

    def _queues(self, ledger: RedisLedger) -> dict[str, Samples]:
        asked = ledger.redis.pipeline(transaction=False)
        for key in KEYS.values():
            asked.llen(key)
            asked.lrange(key, -FIRST_OUT, -1)
        asked.hlen("unacked")
        *answers, unacked = asked.execute()
        lengths, ends = answers[0::2], answers[1::2]
        return {
            "farm_queue_length": dict(zip(KEYS, lengths, strict=True)),
            "farm_queue_oldest_seconds": {name: self._waits_s(end) for name, end in zip(KEYS, ends, strict=True)},
            "farm_unacked_messages": {(): unacked},
        }

    def _waits_s(self, messages: list[str]) -> float:
        """Seconds since the earliest of some messages was rung for; 0 without a ticket among them."""
        rung_at = self.registry.rung_at([found for message in messages if (found := ticket(message))])
        return max((self.registry.ledger.now() - at for at in rung_at if at is not None), default=0.0)


def _counted(now: Census) -> dict[str, Samples]:
    never: Samples = {("success", ""): 0, ("cancelled", "E_CANCELLED"): 0, **{("error", code): 0 for code in CODES}}
    return {
        "farm_broker_up": {(): 1},
        "farm_workers": {(queue,): now.workers[queue] for queue in QUEUES},
        "farm_live_jobs": {(): now.live},
        "farm_idle_jobs": {(): now.idle},
        "farm_running_steps": {(kind,): now.running[kind] for kind in STEP_KINDS},
        "farm_runnable_jobs": {(): now.runnable},
        "farm_unheard_jobs": {(): now.unheard},
        "farm_ahead_seconds": {(): now.ahead_s},
        "farm_predicted_wait_seconds": {(): now.wait_s},
        "farm_jobs_total": never | now.ended,
    }


def _broker(client: redis.Redis) -> dict[str, Samples]:
    told: dict[str, Any] = client.info("everything")
    written = told["aof_enabled"] and told["aof_last_write_status"] == "ok"
    return {
        "farm_broker_aof_ok": {(): int(written)},
        "farm_broker_memory_bytes": {(): told["used_memory"]},
        "farm_broker_evicted_keys_total": {(): told["evicted_keys"]},
    }


def _family(metric: Metric, samples: Samples) -> Family:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=list(metric.labels))
    for labels, value in samples.items():
        family.add_metric(labels, value)
    return family
