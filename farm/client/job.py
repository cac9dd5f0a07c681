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
from farm.engine.journal import close
from farm.engine.playlist import mirror
from farm.engine.route import LAST, NOTIFY
from farm.errors import DownloadFailed, InvalidInput, TimedOut, error_from_code
from farm.job import Event, JobStatus, Notice, Result
from farm.store import keys


@dataclass(frozen=True)
class Job:
    """One job of a farm."""

    context: Context = field(repr=False)
    id: str

    def status(self) -> JobStatus:
        """Where it stands now."""
        return self.context.registry.job(self.id)

    def events(self) -> Iterator[Event]:
        """Everything that happens to it, from its first stage to its end; waits for what is still to come."""
        return self.context.registry.events(self.id)

    async def aevents(self) -> AsyncIterator[Event]:
        """The same for `async for`, without holding up the loop."""
        events = self.events()
        while (event := await asyncio.to_thread(next, events, None)) is not None:
            yield event

    def wait(self, timeout_s: float | None = None) -> JobStatus:
        """Its last status; TimedOut if it has not ended by then (it goes on)."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not (status := self.status()).ended:
            if deadline is not None and time.monotonic() > deadline:
                raise TimedOut(f"job {self.id} has not ended within {timeout_s:g} s; it is at {status.stage}")
            time.sleep(0.2)
        return status

    def result(self, timeout_s: float | None = None) -> Result:
        """Its result, waited for; raises the error that it ended with."""
        result = self.wait(timeout_s).result
        if result is None:
            raise LookupError(f"job {self.id} has ended without a result")
        if failure := result.error:
            raise error_from_code(failure.code, failure.message, retryable=failure.retryable)
        return result

    def save(self, path: Path) -> Path:
        """Writes the finished video to `path`, complete or not at all; DownloadFailed if the store has lost it."""
        check_target(path)
        self.result()
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".farm-") as scratch:
            fetched = self._fetched(Path(scratch, "fetched"))
            # A copy, because what the store handed out may be the store's own file.
            return shutil.copyfile(fetched, Path(scratch, "own")).replace(path)

    def _fetched(self, path: Path) -> Path:
        output = self.context.registry.output(self.id, LAST.id) or {}
        try:
            return self.context.store.fetch(output["video"], path)
        except KeyError as error:
            raise DownloadFailed(f"video: the store holds no video of job {self.id}", retryable=False) from error

    def playlist(self) -> str | None:
        """Where a player finds what is made so far, an HLS playlist that grows; None before the first chunk."""
        key = keys.playlist(self.id)
        return None if self.context.store.size(key) is None else self.context.store.url(key)

    def webhook(self) -> Notice | None:
        """What became of the call of its webhook; None if it has none, or has not ended."""
        registry = self.context.registry
        if not (registry.request(self.id).webhook and self.status().ended):
            return None
        told = registry.output(self.id, NOTIFY.id)
        if told is None:
            return Notice(state="waiting", tries=registry.attempts(self.id, NOTIFY.id))
        return Notice(state=told["outcome"], tries=told["tries"], reason=told["reason"])

    def mirror(self, folder: Path) -> Path | None:
        """Lays what is made so far into a folder of its own, for a player that cannot read the store.

        Returns the playlist there, which names only files of that folder; None while there is nothing. Call it again as
        the video grows: only what is new is fetched.
        """
        with suppress(KeyError):  # cleared away after its end: the finished video is what remains
            return mirror(self.context, self.id, folder)
        return None

    def cancel(self, by: str = "the caller") -> bool:
        """Ends it; False when it had ended already. A step that runs stops at its next report."""
        cancelled = self.context.registry.cancel(self.id, by=by)
        if cancelled:
            close(self.context, self.id)
        return cancelled


def check_target(path: Path) -> None:
    """Refuses a file that could not be written, before anything is waited for."""
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise InvalidInput(
            f"output: got {str(path)!r}; allowed: a file in a folder that can be written ({error.strerror})"
        ) from error
