"""The events of a job, as a stream that is taken up again where it was lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pytest

from farm.client import Farm
from farm.errors import FarmUnreachable
from farm.gateway.v1 import events
from farm.gateway.watch import Watch
from farm.job import Event, Result
from tests.support.gateway import POOL, Answer, Client
from tests.support.jobs import FIELDS

Message = tuple[str, str]
"""Id and stage of an event."""


def report(farm: Farm, job_id: str, *stages: str) -> None:
    for stage in stages:
        farm.context.registry.jobs.report(Event(stage=stage, pct=1, job_id=job_id))


def finish(farm: Farm, job_id: str) -> None:
    result = Result(job_id=job_id, status="success")
    farm.context.registry.jobs.end(job_id, "success", result)


@contextmanager
def stream(client: Client, job_id: str, last: str | None = None) -> Iterator[Iterator[str]]:
    """The blocks of a stream as they come."""
    headers = {} if last is None else {"Last-Event-ID": last}
    url = f"{client.url}/v1/jobs/{job_id}/events"
    response = POOL.request("GET", url, headers=headers, preload_content=False)
    try:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        yield _blocks(response.stream(1))
    finally:
        response.close()


def _blocks(pieces: Iterator[bytes]) -> Iterator[str]:
    block = ""
    for piece in pieces:
        block += piece.decode()
        if block.endswith("\n\n"):
            yield block[:-2]
            block = ""


def message(block: str) -> Message:
    first, second = block.split("\n")
    return first.removeprefix("id: "), json.loads(second.removeprefix("data: "))["stage"]


def messages(blocks: Iterator[str]) -> Iterator[Message]:
    return (message(block) for block in blocks if block.startswith("id: "))


def no_stream(client: Client, job_id: str, last: str) -> Answer:
    return client.send("GET", f"/v1/jobs/{job_id}/events", **{"Last-Event-ID": last})


def test_events_come_as_they_are_reported_and_end_with_the_job(client: Client, farm: Farm):
    job_id = client.submit_v1(FIELDS)
    report(farm, job_id, "downloads_started")
    with stream(client, job_id) as blocks:
        found = messages(blocks)
        assert next(found)[1] == "downloads_started"
        report(farm, job_id, "downloads_ok")
        assert next(found)[1] == "downloads_ok"
        finish(farm, job_id)
        assert [stage for _, stage in found] == ["completed"]


def test_a_client_that_lost_its_connection_misses_and_repeats_nothing(client: Client, farm: Farm):
    job_id = client.submit_v1(FIELDS)
    report(farm, job_id, "downloads_started", "downloads_ok")
    with stream(client, job_id) as blocks:
        (last, _), _ = islice(messages(blocks), 2)
    report(farm, job_id, "embeddings_started")
    finish(farm, job_id)

    with stream(client, job_id, last) as blocks:
        rest = list(messages(blocks))

    stages = [stage for _, stage in rest]
    assert stages == ["downloads_ok", "embeddings_started", "completed"]
    after = no_stream(client, job_id, rest[-1][0])
    assert (after.status, after.body) == (204, "")


def test_a_proxy_sees_that_a_stream_without_news_is_alive(
    client: Client, farm: Farm, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(events, "KEEP_ALIVE_S", 0.01)
    job_id = client.submit_v1(FIELDS)
    with stream(client, job_id) as blocks:
        assert next(blocks) == "retry: 2000"
        assert next(blocks) == ": no news"
        report(farm, job_id, "downloads_started")
        assert next(messages(blocks))[1] == "downloads_started"


def test_a_stream_ends_after_a_while_so_that_a_revoked_key_ends_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(events, "STREAM_S", 0.05)
    monkeypatch.setattr(events, "KEEP_ALIVE_S", 0.01)
    with stream(client, client.submit_v1(FIELDS)) as blocks:
        *_, last = blocks
    assert last == ": no news"


def test_a_stream_ends_while_the_farm_does_not_answer():
    class Away:
        def texts(self, job_ids: list[str]) -> list[str]:
            raise FarmUnreachable("the broker is away")

    async def streamed() -> list[str]:
        jobs: Any = Away()
        return [each async for each in events.follow(jobs, Watch(jobs.texts), "a", "0")]

    assert asyncio.run(streamed()) == [events.RETRY]


@pytest.mark.parametrize("last", ["", "0", "1-2-3", "$", "9" * 19 + "-1"])
def test_a_wrong_position_is_refused(client: Client, last: str):
    job_id = client.submit_v1(FIELDS)

    answer = no_stream(client, job_id, last)

    assert (answer.status, answer.field) == (422, "Last-Event-ID")
