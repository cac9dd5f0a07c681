"""The gateway's metrics: requests by route and status, how long they take, and those that wait."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from farm.metrics import METRICS
from farm.monitoring.exporter import Samples, exposition, family

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

ANSWERED = "farm_gateway_answer_seconds"

OTHER = "other"
"""The route of a request that has none of ours."""


class Counters:
    """Every metric of source `gateway`."""

    def __init__(self, waits: Callable[[], int]) -> None:
        from prometheus_client import Histogram

        self._waits = waits
        self._requests: Counter[tuple[str, ...]] = Counter()
        metric = next(each for each in METRICS if each.name == ANSWERED)
        self._answered = Histogram(
            metric.name, metric.help, list(metric.labels), registry=None, buckets=metric.buckets
        )

    def count(self, route: str, status: int, took_s: float) -> None:
        self._requests[route, str(status)] += 1
        self._answered.labels(route).observe(took_s)

    def exposition(self) -> str:
        """The metrics in Prometheus' text format."""
        return exposition(self)

    def collect(self) -> Iterator[Family]:
        samples: dict[str, Samples] = {
            "farm_gateway_requests_total": dict(self._requests),
            "farm_gateway_waits": {(): self._waits()},
        }
        for metric in METRICS:
            if metric.source == "gateway" and metric.name != ANSWERED:
                yield family(metric, samples[metric.name])
        yield from self._answered.collect()


class CountedApp:
    """ASGI middleware that counts what is answered."""

    def __init__(self, app: ASGIApp, counters: Counters) -> None:
        self._app = app
        self._counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begin = time.monotonic()

        async def send_and_count(message: Message) -> None:
            if message["type"] == "http.response.start":
                took_s = time.monotonic() - begin
                self._counters.count(_route(scope), message["status"], took_s)
            await send(message)

        await self._app(scope, receive, send_and_count)


def _route(scope: Scope) -> str:
    """The last word of the route, which has neither ids nor names of endpoints."""
    route = scope.get("route")
    if route is None or "endpoint" not in scope:
        return OTHER
    words = [word for word in route.path.split("/") if word and not word.startswith("{")]
    return str(words[-1])
