"""One job of a farm: follow it, take its result, end it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from farm.engine.context import Context
from farm.engine.journal import close_job
from farm.engine.playlist import mirror
from farm.errors import DownloadFailed, InvalidInput, TimedOut, error_from_code
from farm.job import Event, JobStatus, Result, WebhookStatus
from farm.registry.outputs import MuxOutput, NotifyOutput
from farm.route import MUX, NOTIFY
from farm.store import integrity, keys

POLL_INTERVAL_S = 0.2


@dataclass(frozen=True)
class Job:
    """One job of a farm."""

    context: Context = field(repr=False)
    id: str

    def status(self) -> JobStatus:
        """Its current status."""
        return self.context.registry.jobs.status(self.id)

    def events(self) -> Iterator[Event]:
        """Every event from its first stage to its end; waits for those to come."""
        return self.context.registry.jobs.events(self.id)

    async def aevents(self) -> AsyncIterator[Event]:
        """The same for `async for`, without blocking the event loop."""
        events = self.events()
        while (event := await asyncio.to_thread(next, events, None)) is not None:
            yield event

    def wait(self, timeout_s: float | None = None) -> JobStatus:
        """Its last status; TimedOut if it has not ended by then (it goes on)."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            status = self.status()
            if status.ended:
                return status
            if deadline is not None and time.monotonic() > deadline:
                raise TimedOut(
                    f"job {self.id} has not ended within {timeout_s:g} s; it is at {status.stage}"
                )
            time.sleep(POLL_INTERVAL_S)

    def result(self, timeout_s: float | None = None) -> Result:
        """Its result, waited for; raises the error with which it ended."""
        result = self.wait(timeout_s).result
        if result is None:
            raise LookupError(f"job {self.id} has ended without a result")
        failure = result.error
        if failure is not None:
            raise error_from_code(failure.code, failure.message, retryable=failure.retryable)
        return result

    def save(self, path: Path) -> Path:
        """Writes the finished video to `path`, completely or not at all.

        Raises DownloadFailed if the store has lost it, CorruptObject if it is damaged.
        """
        check_target(path)
        self.result()
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".farm-") as scratch:
            fetched = self._fetch_video(Path(scratch, "fetched"))
            # A copy, because what the store returned may be the store's own file.
            return shutil.copyfile(fetched, Path(scratch, "own")).replace(path)

    def _fetch_video(self, path: Path) -> Path:
        lost = DownloadFailed(f"video: the store holds no video of job {self.id}", retryable=False)
        committed = self.context.registry.steps.committed(self.id, MUX.id)
        if committed is None:
            raise lost
        try:
            key = committed.output_as(MuxOutput).video_key
            return integrity.fetch(self.context.store, key, path, sha256=committed.digests[key])
        except KeyError as error:
            raise lost from error

    def playlist(self) -> str | None:
        """The URL of the growing HLS playlist; None before the first chunk."""
        key = keys.playlist(self.id)
        if self.context.store.size(key) is None:
            return None
        return self.context.store.url(key)

    def webhook(self) -> WebhookStatus | None:
        """The delivery of its webhook; None if it has none, or has not ended."""
        registry = self.context.registry
        if not registry.jobs.request(self.id).webhook or not self.status().ended:
            return None
        committed = registry.steps.committed(self.id, NOTIFY.id)
        if committed is None:
            attempts = registry.steps.attempts(self.id, NOTIFY.id)
            return WebhookStatus(state="pending", attempts=attempts)
        delivery = committed.output_as(NotifyOutput)
        return WebhookStatus(
            state=delivery.outcome, attempts=delivery.attempts, reason=delivery.reason
        )

    def mirror(self, folder: Path) -> Path | None:
        """Copies the segments so far into a folder, for a player that cannot read the store.

        Returns the playlist there, which names only files of that folder; None while there is none.
        Call it again as the video grows: only new segments are fetched.
        """
        with suppress(KeyError):  # removed after its end: the finished video is what remains
            return mirror(self.context, self.id, folder)
        return None

    def cancel(self, by: str = "the caller") -> bool:
        """Ends it; False if it had ended already. A running step stops at its next report."""
        cancelled = self.context.registry.jobs.cancel(self.id, by=by)
        if cancelled:
            close_job(self.context, self.id)
        return cancelled


def check_target(path: Path) -> None:
    """Raises InvalidInput for a file that could not be written, before anything is waited for."""
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise InvalidInput(
            f"output: got {str(path)!r}; allowed: a file in a writable folder ({error.strerror})"
        ) from error
