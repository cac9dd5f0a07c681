"""Waiting for jobs: many at once with one reader, whatever happens to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from farm.errors import FarmUnreachable, VersionSkew
from farm.gateway import watch as watching
from farm.gateway.watch import Watch


class Records:
    """Records of jobs, and how often and from which threads they were read."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.reads: list[int] = []
        self.threads: set[int] = set()
        self.failures = 0

    def __call__(self, job_ids: Sequence[str]) -> list[str | None]:
        self.reads.append(len(job_ids))
        self.threads.add(threading.get_ident())
        if self.failures:
            self.failures -= 1
            raise FarmUnreachable("no broker answers")
        return [self.texts.get(job_id) for job_id in job_ids]


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Records:
    monkeypatch.setattr(watching, "POLL_INTERVAL_S", 0.01)
    return Records()


def is_done(text: str | None) -> bool:
    return text == "done"


async def all_read(records: Records, count: int) -> None:
    """Returns once so many jobs were read at once."""
    while count not in records.reads:
        await asyncio.sleep(0.005)


def test_many_wait_with_one_thread_and_one_request_at_a_time(records: Records):
    async def scenario() -> None:
        watch = Watch(records)
        names = [f"job {number % 50}" for number in range(500)]
        waits = [asyncio.create_task(watch.wait(name, is_done, 60)) for name in names]
        await all_read(records, 50)
        assert len(watch) == 500
        records.texts = dict.fromkeys(names, "done")
        await asyncio.gather(*waits)
        assert len(watch) == 0

    asyncio.run(scenario())

    assert len(records.threads) == 1
    assert max(records.reads) == 50


def test_a_wait_ends_after_its_time(records: Records):
    async def scenario() -> None:
        watch = Watch(records)
        await watch.wait("a", is_done, 0.05)
        assert len(watch) == 0

    asyncio.run(scenario())


def test_those_who_wait_outlive_an_outage(records: Records):
    async def scenario() -> None:
        records.failures = 3
        records.texts["a"] = "done"
        await Watch(records).wait("a", is_done, 60)

    asyncio.run(scenario())

    assert len(records.reads) == 4


def test_a_record_that_cannot_be_read_ends_the_wait_with_the_reason(records: Records):
    def until(_: str | None) -> bool:
        raise VersionSkew("format 2")

    with pytest.raises(VersionSkew):
        asyncio.run(Watch(records).wait("a", until, 60))


def test_closing_ends_all_waits_and_admits_no_more(records: Records):
    async def scenario() -> None:
        watch = Watch(records)
        waits = [asyncio.create_task(watch.wait("a", is_done, 60)) for _ in range(3)]
        await all_read(records, 1)
        watch.close()
        await asyncio.gather(*waits)
        await watch.wait("a", is_done, 60)

    asyncio.run(scenario())


def test_nothing_is_read_while_nobody_waits(records: Records):
    async def scenario() -> None:
        records.texts["a"] = "done"
        await Watch(records).wait("a", is_done, 60)
        reads = len(records.reads)
        await asyncio.sleep(0.05)
        assert len(records.reads) == reads

    asyncio.run(scenario())
