"""What the broker, the reaper and the exporter do with many jobs, and for each further chunk.

    python -m benchmarks.load [--sizes 100,1000,10000]

Waiting jobs are submitted to a broker without workers; the reaper's rounds and the exporter's
scrapes are then timed in this process. Chunks are those of `benchmarks.paced`, which take no time:
what a job of 21 costs more than one of a single chunk is the share of 20 chunks.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import median

import redis

from benchmarks.chain import REQUEST, resources
from benchmarks.simulated import APPLICATION, Log, pace
from farm import Farm
from farm.engine.context import open_context
from farm.engine.deadlines import end_overdue
from farm.local.broker import Broker
from farm.local.supervisor import open_supervisor
from farm.monitoring.exporter import FarmCollector, exposition
from farm.queue.brokers import open_broker
from farm.queue.waiting import find_lost_messages
from farm.settings import Settings

REPEATS = 5
IDLE_S = 30.0
JOBS = 20
FEW, MANY = 1, 21
"""Chunks of a job."""


def waiting(sizes: Iterable[int]) -> list[dict[str, float]]:
    """A row for each number of waiting jobs."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="farm-benchmarks-") as home:
        settings = Settings(home=Path(home), max_live_jobs=None)
        broker = Broker(settings)
        try:
            rows = list(_waiting(settings.model_copy(update={"broker_url": broker.url}), sizes))
        finally:
            broker.stop()
    return rows


def _waiting(settings: Settings, sizes: Iterable[int]) -> Iterable[dict[str, float]]:
    farm = Farm(settings=settings)
    context = open_context(settings)
    broker = open_broker(settings)
    collector = FarmCollector(settings)
    with redis.Redis.from_url(settings.broker_address) as client:
        empty = client.info("memory")["used_memory"]
        jobs = 0
        for size in sizes:
            start = time.perf_counter()
            for _ in range(size - jobs):
                farm.submit(REQUEST)
            taken = time.perf_counter() - start
            yield {
                "waiting jobs": size,
                "submissions a second": (size - jobs) / taken,
                "broker, kB a job": (client.info("memory")["used_memory"] - empty) / size / 1000,
                "ms of the reaper: overdue jobs": _ms(lambda: end_overdue(context)),
                "ms of the reaper: lost messages": _ms(
                    lambda: find_lost_messages(context.registry, broker, lease_s=settings.lease_s)
                ),
                "ms of the reaper: search of all queues": _ms(
                    lambda: find_lost_messages(context.registry, broker, lease_s=0, thorough=True)
                ),
                "ms of the reaper: orphaned jobs": _ms(
                    lambda: list(context.registry.jobs.orphaned())
                ),
                "ms of a scrape": _ms(lambda: exposition(collector)),
            }
            jobs = size


def _ms(call: Callable[[], object]) -> float:
    """The median of several calls."""
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - start))
    return median(taken)


def idle() -> dict[str, float]:
    """What a cpu worker with its downloads, and a gpu worker, cost each second while they wait."""
    with (
        tempfile.TemporaryDirectory(prefix="farm-benchmarks-") as home,
        open_supervisor(Settings(home=Path(home)), application=APPLICATION) as supervisor,
    ):
        before = resources(supervisor)
        time.sleep(IDLE_S)
        after = resources(supervisor)
    return {name: (after[name] - before[name]) / IDLE_S for name in before}


def chunk(jobs: int = JOBS) -> dict[str, float]:
    """What one further chunk costs, by resource."""
    few, many = (_job(chunks, jobs) for chunks in (FEW, MANY))
    return {name: (many[name] - few[name]) / (MANY - FEW) for name in few}


def _job(chunks: int, jobs: int) -> Mapping[str, float]:
    """What a job costs."""
    with (
        pace(chunks, chunk_s=0),
        tempfile.TemporaryDirectory(prefix="farm-benchmarks-") as home,
        open_supervisor(Settings(home=Path(home)), application=APPLICATION) as supervisor,
    ):
        farm = Farm(settings=supervisor.settings)
        log = Log(supervisor.settings)
        log.wait_for_end([farm.submit(REQUEST).id])  # no import and no new connection is measured
        before = resources(supervisor)
        start = time.perf_counter()
        log.wait_for_end([farm.submit(REQUEST).id for _ in range(jobs)])
        seconds = (time.perf_counter() - start) / jobs
        after = resources(supervisor)
    costs = {name: (after[name] - before[name]) / jobs for name in before}
    return costs | {"seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default="100,1000,10000")
    options = parser.parse_args()
    for name, value in idle().items():
        print(f"a second of an idle farm: {name:32}{value:10.3f}")
    for name, value in chunk().items():
        print(f"a further chunk: {name:32}{value:10.3f}")
    for row in waiting(map(int, options.sizes.split(","))):
        print("; ".join(f"{name} {value:,.1f}" for name, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
