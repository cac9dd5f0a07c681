"""Requests that wait for jobs, all with one reader of the registry.

A waiting request holds neither a thread nor a connection of Redis: every 200 ms one call reads the
records of all jobs that are waited for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from anyio import CapacityLimiter, to_thread

from farm.errors import FarmError
from farm.logs import log

POLL_INTERVAL_S = 0.2

Read = Callable[[Sequence[str]], list[str | None]]
"""The records of jobs, None for those that are unknown."""
Until = Callable[[str | None], bool]


@dataclass(eq=False)
class _Waiter:
    job_id: str
    until: Until
    seen: str | None = ""
    done: asyncio.Future[str | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def show(self, text: str | None) -> None:
        """Ends the wait if a record that has changed is what it waits for."""
        if text == self.seen or self.done.done():
            return
        self.seen = text
        try:
            if self.until(text):
                self.done.set_result(text)
        except FarmError as error:
            self.done.set_exception(error)


class Watch:
    def __init__(self, read: Read) -> None:
        self._read = read
        self._waiters: set[_Waiter] = set()
        self._reader: asyncio.Task[None] | None = None
        self._thread: CapacityLimiter | None = None
        self.is_closed = False

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._waiters)

    async def wait(self, job_id: str, until: Until, timeout_s: float) -> bool:
        """Whether `until` came true of a job's record: not within the time, or before the end."""
        if self.is_closed:
            return False
        waiter = _Waiter(job_id, until)
        self._waiters.add(waiter)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read_forever())
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.done
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return not self.is_closed

    def close(self) -> None:
        """Ends all waits, before the server stops."""
        self.is_closed = True
        for waiter in self._waiters:
            if not waiter.done.done():
                waiter.done.set_result(None)

    async def _read_forever(self) -> None:
        self._thread = self._thread or CapacityLimiter(1)  # its own, never behind requests
        while self._waiters:
            try:
                await self._read_once(self._thread)
            except FarmError as error:  # those who wait go on: the farm may come back
                log("gateway_wait_failed", level=logging.WARNING, reason=error.code)
            await asyncio.sleep(POLL_INTERVAL_S)

    async def _read_once(self, thread: CapacityLimiter) -> None:
        job_ids = list({waiter.job_id for waiter in self._waiters})
        texts = await to_thread.run_sync(self._read, job_ids, limiter=thread)
        found = dict(zip(job_ids, texts, strict=True))
        for waiter in list(self._waiters):
            if waiter.job_id in found:
                waiter.show(found[waiter.job_id])
