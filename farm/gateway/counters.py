"""The gateway's metrics: requests by route and status, and those that wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from farm.metrics import METRICS
from farm.monitoring.exporter import Samples, exposition, family

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

OTHER = "other"
"""The route of a request that has none of ours."""


class Counters:
    """Every metric of source `gateway`."""

    def __init__(self, waits: Callable[[], int]) -> None:
        self._waits = waits
        self._requests: Counter[tuple[str, ...]] = Counter()

    def count(self, route: str, status: int) -> None:
        self._requests[route, str(status)] += 1

    def exposition(self) -> str:
        """The metrics in Prometheus' text format."""
        return exposition(self)

    def collect(self) -> Iterator[Family]:
        samples: dict[str, Samples] = {
            "farm_gateway_requests_total": dict(self._requests),
            "farm_gateway_waits": {(): self._waits()},
        }
        for metric in METRICS:
            if metric.source == "gateway":
                yield family(metric, samples[metric.name])


class CountedApp:
    """ASGI middleware that counts what is answered."""

    def __init__(self, app: ASGIApp, counters: Counters) -> None:
        self._app = app
        self._counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_and_count(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._counters.count(_route(scope), message["status"])
            await send(message)

        await self._app(scope, receive, send_and_count)


def _route(scope: Scope) -> str:
    """The last word of the route, which has neither ids nor names of endpoints."""
    route = scope.get("route")
    if route is None or "endpoint" not in scope:
        return OTHER
    words = [word for word in route.path.split("/") if word and not word.startswith("{")]
    return str(words[-1])
