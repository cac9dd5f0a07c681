"""The events of a job as a stream that a client can take up again (Server-Sent Events)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from functools import partial
from operator import ne

from anyio import to_thread

from farm.errors import FarmUnreachable
from farm.gateway.refusal import refuse
from farm.gateway.service import has_ended
from farm.gateway.watch import Watch
from farm.job import Event
from farm.registry.jobs import LAST_STAGES, JobRegistry

KEEP_ALIVE_S = 15.0
"""After this time without an event a comment is sent, so that no proxy ends the stream."""
STREAM_S = 300.0
"""Then the stream ends, and a client takes it up again with a key that is still valid."""

BEGIN = "0"
RETRY = "retry: 2000\n\n"
"""Milliseconds after which a browser takes up a stream that has ended."""
KEEP_ALIVE = ": no news\n\n"

POSITION = re.compile("[0-9]{1,18}-[0-9]{1,18}")


def parse_position(text: str | None) -> str:
    """Where a stream goes on: Last-Event-ID. Raises Refusal 422."""
    if text is None:
        return BEGIN
    if POSITION.fullmatch(text) is None:
        raise refuse(422, f"Last-Event-ID: got {text[:80]!r}; allowed: the id of an event")
    return text


async def follow(jobs: JobRegistry, watch: Watch, job_id: str, position: str) -> AsyncIterator[str]:
    """The events after a position, as they come; ends with the last one, after `STREAM_S`, or
    while the farm does not answer, for the client to take it up again.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + STREAM_S
    yield RETRY
    while loop.time() < deadline and not watch.is_closed:
        try:
            (record,) = await to_thread.run_sync(jobs.texts, [job_id])
            events = await to_thread.run_sync(jobs.events_after, job_id, position)
        except FarmUnreachable:
            return
        for position, event in events:
            yield _message(position, event)
            if event.stage in LAST_STAGES:
                return
        if events:
            continue
        if has_ended(record):
            return
        if not await watch.wait(job_id, partial(ne, record), KEEP_ALIVE_S):
            yield KEEP_ALIVE


def has_more(jobs: JobRegistry, job_id: str, position: str) -> bool:
    """Whether a job has events after a position, or will have."""
    (record,) = jobs.texts([job_id])
    return not has_ended(record) or bool(jobs.events_after(job_id, position))


def _message(position: str, event: Event) -> str:
    return f"id: {position}\ndata: {event.model_dump_json()}\n\n"
