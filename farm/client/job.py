"""One job of a farm: follow it, take its result, end it."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

from farm.engine.context import Context
from farm.engine.journal import close_job
from farm.engine.playlist import mirror
from farm.errors import DownloadFailed, FarmError, InvalidInput, TimedOut, error_from_code
from farm.job import Event, JobStatus, ResolvedRequest, Result, WebhookStatus
from farm.maintenance.removal import delete_job
from farm.queue.positions import queue_positions
from farm.registry.outputs import MuxOutput, NotifyOutput
from farm.route import MUX, NOTIFY
from farm.store import integrity, keys

POLL_INTERVAL_S = 0.2
THUMBNAIL = "/thumbnail.jpg"
SUFFIX = ".mp4"
"""Of a video's name."""


@dataclass(frozen=True, repr=False)
class Job:
    """One job of a farm. `await job` is its result; a notebook shows its video."""

    context: Context = field(repr=False)
    id: str

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}: {self._seen()[0]}>"

    def _repr_html_(self) -> str:
        """Its state, and its video as soon as there is one."""
        state, result = self._seen()
        video = (result and result._repr_html_()) or ""
        return f"<p>job {escape(self.id)}: {escape(state)}</p>{video}"

    def _seen(self) -> tuple[str, Result | None]:
        """Its state and result now, or why they cannot be seen: to show it must not fail."""
        try:
            status = self.status()
        except FarmError as error:
            return error.message, None
        return status.summary, status.result

    def status(self) -> JobStatus:
        """Its current status."""
        registry = self.context.registry
        return registry.jobs.status(self.id).at(registry.now())

    def request(self) -> ResolvedRequest:
        """Its request, with the model's defaults."""
        return self.context.registry.jobs.request(self.id)

    def queue_position(self) -> int | None:
        """The place of its message in the order in which workers take them, from 1; None if no
        message of it waits, or that is not known.
        """
        return queue_positions(self.context.registry).get(self.id)

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
        begin = time.monotonic()
        while not (status := self._look(begin, timeout_s)).ended:
            time.sleep(POLL_INTERVAL_S)
        return status

    def result(self, timeout_s: float | None = None) -> Result:
        """Its result, waited for; raises the error with which it ended."""
        return _result(self.wait(timeout_s))

    async def aresult(self, timeout_s: float | None = None) -> Result:
        """The same, without blocking the event loop; may be cancelled, and the job goes on."""
        begin = time.monotonic()
        while not (status := await asyncio.to_thread(self._look, begin, timeout_s)).ended:
            await asyncio.sleep(POLL_INTERVAL_S)
        return _result(status)

    def __await__(self) -> Generator[Any, None, Result]:
        return self.aresult().__await__()

    def _look(self, begin: float, timeout_s: float | None) -> JobStatus:
        """Its status; TimedOut if it has not ended `timeout_s` after `begin`."""
        status = self.status()
        if not status.ended and timeout_s is not None and time.monotonic() > begin + timeout_s:
            raise TimedOut(
                f"job {self.id} has not ended within {timeout_s:g} s; it is at {status.stage}"
            )
        return status

    def save(self, path: str | PathLike[str]) -> Path:
        """Writes the finished video to `path`, completely or not at all; into a folder under the
        name that it has in the result.

        Raises InvalidInput for a name that ends as that of another format, or if it cannot be
        written, DownloadFailed if the store has lost the video, CorruptObject if it is damaged.
        """
        target = os.path.expanduser(path)
        check_video_target(target)
        video = self.result().video
        path = Path(target)
        if names_folder(target):
            path /= video.file_name if video else f"{self.id}{SUFFIX}"
        try:
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".farm-") as scratch:
                fetched = self._fetch_video(Path(scratch, "fetched"))
                # A copy, because what the store returned may be the store's own file.
                return shutil.copyfile(fetched, Path(scratch, "own")).replace(path)
        except OSError as error:
            raise _not_writable(target, error) from error

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

    def save_thumbnail(self, path: str | PathLike[str]) -> Path | None:
        """Writes the first frame of the finished video to `path`, as JPEG; None if there is none.

        Raises CorruptObject if it is damaged.
        """
        committed = self.context.registry.steps.committed(self.id, MUX.id)
        digests = committed.digests if committed else {}
        for key, sha256 in digests.items():
            if key.endswith(THUMBNAIL):
                with suppress(KeyError):  # removed, or the whole job
                    return integrity.fetch(self.context.store, key, Path(path), sha256=sha256)
        return None

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

    def mirror(self, folder: str | PathLike[str]) -> Path | None:
        """Copies the segments so far into a folder, for a player that cannot read the store.

        Returns the playlist there, which names only files of that folder; None while there is none.
        Call it again as the video grows: only new segments are fetched.
        """
        with suppress(KeyError):  # removed after its end: the finished video is what remains
            return mirror(self.context, self.id, Path(folder).expanduser())
        return None

    def cancel(self, by: str = "the caller") -> bool:
        """Ends it; False if it had ended already. A running step stops at its next report."""
        cancelled = self.context.registry.jobs.cancel(self.id, by=by)
        if cancelled:
            close_job(self.context, self.id)
        return cancelled

    def delete(self, by: str = "the caller") -> None:
        """Removes it with its video, its segments and its uploads; it is cancelled first.

        Uploads that another job has stay, and copies that `output_config` asked for.
        """
        self.cancel(by)
        delete_job(self.context, self.id)


def _result(status: JobStatus) -> Result:
    """The result of a job that has ended; raises the error with which it did."""
    result = status.result
    if result is None:
        raise LookupError(f"job {status.job_id} has ended without a result")
    failure = result.error
    if failure is not None:
        raise error_from_code(failure.code, failure.message, retryable=failure.retryable)
    return result


def names_folder(target: str | PathLike[str]) -> bool:
    """Whether an output is a folder that exists, or ends as only the name of a folder does."""
    return os.fspath(target).endswith(("/", os.sep)) or os.path.isdir(target)


def check_target(target: str | PathLike[str]) -> None:
    """Raises InvalidInput for an output that cannot be written, before anything is waited for."""
    folder = Path(target) if names_folder(target) else Path(target).parent
    try:
        # Strictly: `gone/..` is a folder only as long as `gone` is one.
        tempfile.TemporaryFile(dir=os.path.realpath(folder, strict=True)).close()
    except OSError as error:
        raise _not_writable(target, error) from error


def _not_writable(target: str | PathLike[str], error: OSError) -> InvalidInput:
    got = repr(os.fspath(target))
    return InvalidInput(
        f"output: got {got}; allowed: a file in a writable folder ({error.strerror})"
    )


def check_video_target(target: str | PathLike[str]) -> None:
    """The same for a video, which is an MP4 whatever its name says; one without a suffix says
    nothing.
    """
    suffix = Path(target).suffix
    if not names_folder(target) and suffix.lower() not in ("", SUFFIX):
        raise InvalidInput(
            f"output: got {os.fspath(target)!r}; a video is an MP4; allowed: a name that ends in "
            f"{SUFFIX}, or a folder"
        )
    check_target(target)
