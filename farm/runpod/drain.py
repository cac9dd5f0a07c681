"""How a serverless worker ends: its jobs stop at their next safe point, and no other is taken.

The SDK alone would finish every job and its open request for another one first, which may take
minutes, and drop what that request brings. A job that was stopped gets no answer, so Runpod runs
it again, on another worker.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from farm.logs import log


@dataclass
class Drain:
    concurrency: int
    """Jobs that are taken at once."""
    _stops: set[threading.Event] = field(default_factory=set)
    _jobs: set[asyncio.Task[Any]] = field(default_factory=set)
    """The SDK's tasks, each of which handles a job and posts its answer."""
    _listens: bool = False
    _ending: asyncio.Task[None] | None = None

    @property
    def has_begun(self) -> bool:
        return self._ending is not None

    def modify_concurrency(self, _: int) -> int:
        """What the SDK asks, in its event loop, before it takes a job."""
        if not self._listens:
            self._listens = True
            self._listen()
        return self.concurrency

    @contextmanager
    def job(self) -> Iterator[threading.Event]:
        """Yields what is set when the job in the block has to stop."""
        stop = threading.Event()
        task = asyncio.current_task()
        if task is not None and task not in self._jobs:
            self._jobs.add(task)
            task.add_done_callback(self._jobs.discard)
        self._stops.add(stop)
        try:
            yield stop
        finally:
            self._stops.discard(stop)

    def _listen(self) -> None:
        """Handles SIGTERM, behind the SDK, which stops its loops then."""
        of_sdk = signal.getsignal(signal.SIGTERM)

        def begin() -> None:
            if callable(of_sdk):
                of_sdk(signal.SIGTERM, None)
            self._begin()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, begin)

    def _begin(self) -> None:
        if self.has_begun:
            return
        log("worker_draining", jobs=len(self._jobs))
        for stop in self._stops:
            stop.set()
        self._ending = asyncio.create_task(self._end())

    async def _end(self) -> None:
        """Ends the SDK's loops, and with them its open requests, once all answers are posted."""
        while self._jobs:
            await asyncio.wait(self._jobs)
        for loop in asyncio.all_tasks() - {asyncio.current_task()}:
            loop.cancel()
