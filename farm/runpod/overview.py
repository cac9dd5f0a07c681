"""What `farm endpoint show` tells about an endpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from farm.errors import InvalidInput
from farm.net.runpod import QueueApi
from farm.runpod.difference import masked
from farm.runpod.rest import BILLED_DAYS, RestApi


@dataclass(frozen=True)
class Overview:
    """An endpoint, its workers, its queue and its prices, as Runpod has them."""

    endpoint: dict[str, Any]
    workers: list[dict[str, Any]]
    jobs: dict[str, int]
    """The number of jobs by state."""
    usd_per_hour: dict[str, float]
    """The list price of one worker by pool of GPUs."""
    spent_usd: float | None
    """In the last BILLED_DAYS days; None if the key may not see it."""

    def lines(self) -> Iterator[str]:
        """The overview for people."""
        endpoint = self.endpoint
        yield f"{endpoint.get('name')}  {endpoint.get('id')}  {endpoint.get('image')}"
        yield self._workers_line()
        yield from map(_worker_line, self.workers)
        yield self._queue_line()
        for pool, price in self.usd_per_hour.items():
            yield f"price: {price:.2f} USD an hour for each worker in {pool}"
        if self.spent_usd is not None:
            yield f"spent: {self.spent_usd:.2f} USD in the last {BILLED_DAYS} days"

    def _workers_line(self) -> str:
        limits = self.endpoint.get("workers") or {}
        stale = sum(bool(worker.get("isStale")) for worker in self.workers)
        states = Counter(str(worker.get("status", "")).lower() for worker in self.workers)
        counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        allowed = f"{limits.get('min')} to {limits.get('max')} allowed"
        return f"workers: {counts or 'none'}; {stale} stale; {allowed}"

    def _queue_line(self) -> str:
        waiting, running, completed, failed, retried = (
            self.jobs.get(state, 0)
            for state in ("inQueue", "inProgress", "completed", "failed", "retried")
        )
        return (
            f"queue: {waiting} waiting, {running} running; "
            f"{completed} completed, {failed} failed, {retried} retried"
        )


def overview(rest: RestApi, queue: QueueApi, endpoint_id: str) -> Overview:
    """The overview of an endpoint; InvalidInput if there is none."""
    endpoint = rest.endpoint(endpoint_id)
    gpu = endpoint.get("gpu") or {}
    return Overview(
        endpoint=masked(endpoint),
        workers=rest.workers(endpoint_id),
        jobs=queue.health().get("jobs") or {},
        usd_per_hour=_prices(rest.gpus(), gpu),
        spent_usd=_spent(rest, endpoint_id),
    )


def _prices(catalog: list[dict[str, Any]], gpu: dict[str, Any]) -> dict[str, float]:
    """The highest list price in each pool, times the GPUs of a worker."""
    prices: dict[str, float] = {}
    for each in catalog:
        pool = str(each.get("pool"))
        price = (each.get("price") or {}).get("serverless")
        if pool in gpu.get("pools", ()) and price is not None:
            prices[pool] = max(prices.get(pool, 0), price * gpu.get("count", 1))
    return prices


def _spent(rest: RestApi, endpoint_id: str) -> float | None:
    try:
        return rest.spent_usd(endpoint_id)
    except InvalidInput:  # the permission for billing is one of its own
        return None


def _worker_line(worker: dict[str, Any]) -> str:
    parts = [
        str(worker.get("id")),
        str(worker.get("status", "")).lower(),
        worker.get("gpuTypeId") or "no GPU yet",
        worker.get("dataCenterId") or "",
        f"up {worker['uptimeSeconds']} s" if worker.get("uptimeSeconds") is not None else "",
        f"stale, version {worker.get('version')}" if worker.get("isStale") else "",
    ]
    return "  " + "  ".join(part for part in parts if part)
