"""The front door: hand in a job, follow it, take its result."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from farm.errors import DownloadFailed, FarmUnreachable, InvalidInput, TimedOut, error_of
from farm.job import Event, JobRequest, JobStatus, Notice, Result, State
from farm.payload import items
from farm.registry import open_registry
from farm.settings import Settings
from farm.steps import archive
from farm.steps.allowed import check_allowed
from farm.steps.archive import close
from farm.steps.place import Place, open_place
from farm.steps.playlist import mirror
from farm.steps.recover import Recovered, recover
from farm.steps.route import FIRST, LAST, NOTIFY, Step
from farm.steps.sweep import Waste, waste
from farm.store import keys, open_store
from farm.transports import Transport

INLINE = "inline://"
SHORTEST_BASE64 = 200
"""A shorter text that names no file is a misspelt path, not media."""


class Farm:
    """A farm behind a broker's URL, or in this process for `inline://`; without a URL the one of the settings."""

    def __init__(self, url: str | None = None, *, settings: Settings | None = None) -> None:
        settings = settings or Settings.load(os.environ)
        if url == INLINE:
            place = Place(settings, open_store(settings.store_address, settings), open_registry("memory://"))
        else:
            place = open_place(settings.model_copy(update={"broker_url": url}) if url else settings)
        self.place = place
        self.here = url == INLINE
        self.transport = _transport(place, inline=self.here)

    def submit(self, request: JobRequest | Mapping[str, Any] | None = None, **fields: Any) -> Job:
        """Enters a job and sends it on its way; the same idempotency key returns the first job.

        Takes a request, or the contract's fields by name. Local files are uploaded. Raises InvalidInput before anything
        is queued, FarmUnreachable when no broker answers.
        """
        given = request.model_dump(mode="json") if isinstance(request, JobRequest) else request or {}
        job_id = secrets.token_hex(6)
        entered = JobRequest.parse({**given, **fields})
        self._check(entered)
        if entered.idempotency_key:
            job_id = self.place.registry.claim(entered.idempotency_key, job_id)
        entered = self.upload(_with_seed(entered))
        archive.enter(self.place, job_id, entered)
        self.place.registry.add(job_id, entered)
        if self.place.registry.ring(job_id, FIRST.product, window_s=self.place.settings.ring_s):
            self._send(job_id, FIRST)
        return Job(self.place, job_id)

    def job(self, job_id: str) -> Job:
        """A job by its id; InvalidInput if there is none."""
        self.place.registry.job(job_id)
        return Job(self.place, job_id)

    def submit_batch(self, requests: Iterable[JobRequest | Mapping[str, Any]] | Mapping[str, Any]) -> Iterator[Job]:
        """Each request's job, once it is entered; a wrong one raises in its turn, and the next may be asked for.

        Takes the contract's `{"batch": [...]}` too. `farm.batch` does files, and goes on where it stopped.
        """
        return map(self._submit_item, items(requests) if isinstance(requests, Mapping) else requests)

    def jobs(self, limit: int = 20, *, state: State | None = None, since: float | datetime = 0) -> list[JobStatus]:
        """The newest jobs first: those in one state, and those entered at `since` (seconds since 1970) or later."""
        begin = since.timestamp() if isinstance(since, datetime) else since
        recent = takewhile(lambda job: job.created_at >= begin, self.place.registry.jobs())
        return list(islice((job for job in recent if state in (None, job.state)), limit))

    def recover(self) -> Iterator[Recovered]:
        """Each job that the store holds, after it was entered again if the broker has lost it, and sent on its way."""
        for job_id, names in archive.jobs(self.place.store):
            found = recover(self.place, job_id, names)
            if found.step:
                self._send(job_id, found.step)
            yield found

    def gc(self, *, dry_run: bool = False) -> Iterator[Waste]:
        """Everything that nobody needs any more, after it was removed; with `dry_run` nothing is."""
        for found in waste(self.place):
            if not dry_run:
                found.remove()
            yield found

    def cancel(self, job_ids: Iterable[str], by: str = "the caller") -> dict[str, bool]:
        """Ends many jobs, for instance a batch; False for those that had ended already.

        Raises InvalidInput, before any is ended, if there is no such job.
        """
        jobs = [self.job(job_id) for job_id in dict.fromkeys(job_ids)]
        return {job.id: job.cancel(by) for job in jobs}

    def _check(self, request: JobRequest) -> None:
        """Refuses what this farm does not do."""
        if self.here and request.webhook:
            raise InvalidInput(
                "webhook: a farm in this process ends with it, and nobody would try a call again; allowed: null"
            )
        check_allowed(request, self.place.settings)

    def _submit_item(self, item: JobRequest | Mapping[str, Any] | InvalidInput) -> Job:
        if isinstance(item, InvalidInput):
            raise item
        fields = item if isinstance(item, JobRequest) else {name: item[name] for name in item if name != "id"}
        return self.submit(fields)

    def _send(self, job_id: str, step: Step) -> None:
        """Sends a job on its way at a step that was rung for."""
        try:
            self.transport.send(job_id, step)
        except FarmUnreachable:
            self.place.registry.lost(job_id, step.product)
            raise

    def upload(self, request: JobRequest) -> JobRequest:
        """The request with what the caller holds (a path, a data URI, base64) replaced by where the store has it."""
        return request.with_sources(self._uploaded)

    def _uploaded(self, source: str, field: str) -> str:
        content = local(source, field)
        if content is None:
            return source
        try:
            key = keys.upload(content)
        except OSError as error:
            raise InvalidInput(f"{field}: got {source!r}; it cannot be read ({error.strerror})") from error
        if self.place.store.size(key) is None:
            self.place.store.put(key, content)
        return keys.SCHEME + key


@dataclass(frozen=True)
class Job:
    """One job of a farm."""

    place: Place = field(repr=False)
    id: str

    def status(self) -> JobStatus:
        """Where it stands now."""
        return self.place.registry.job(self.id)

    def events(self) -> Iterator[Event]:
        """Everything that happens to it, from its first stage to its end; waits for what is still to come."""
        return self.place.registry.events(self.id)

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
            raise error_of(failure.code, failure.message, retryable=failure.retryable)
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
        goods = self.place.registry.product(self.id, LAST.product) or {}
        try:
            return self.place.store.fetch(goods["video"], path)
        except KeyError as error:
            raise DownloadFailed(f"video: the store holds no video of job {self.id}", retryable=False) from error

    def playlist(self) -> str | None:
        """Where a player finds what is made so far, an HLS playlist that grows; None before the first chunk."""
        key = keys.playlist(self.id)
        return None if self.place.store.size(key) is None else self.place.store.url(key)

    def webhook(self) -> Notice | None:
        """What became of the call of its webhook; None if it has none, or has not ended."""
        registry = self.place.registry
        if not (registry.request(self.id).webhook and self.status().ended):
            return None
        told = registry.product(self.id, NOTIFY.product)
        if told is None:
            return Notice(state="waiting", tries=registry.attempts(self.id, NOTIFY.product))
        return Notice(state=told["outcome"], tries=told["tries"], reason=told["reason"])

    def mirror(self, folder: Path) -> Path | None:
        """Lays what is made so far into a folder of its own, for a player that cannot read the store.

        Returns the playlist there, which names only files of that folder; None while there is nothing. Call it again as
        the video grows: only what is new is fetched.
        """
        with suppress(KeyError):  # cleared away after its end: the finished video is what remains
            return mirror(self.place, self.id, folder)
        return None

    def cancel(self, by: str = "the caller") -> bool:
        """Ends it; False when it had ended already. A step that runs stops at its next report."""
        cancelled = self.place.registry.cancel(self.id, by=by)
        if cancelled:
            close(self.place, self.id)
        return cancelled


def check_target(path: Path) -> None:
    """Refuses a file that could not be written, before anything is waited for."""
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise InvalidInput(
            f"output: got {str(path)!r}; allowed: a file in a folder that can be written ({error.strerror})"
        ) from error


def _transport(place: Place, *, inline: bool) -> Transport:
    if inline:
        from farm.transports.inline import InlineTransport

        return InlineTransport(place)
    from farm.transports.queued import QueuedTransport

    return QueuedTransport(place)


def _with_seed(request: JobRequest) -> JobRequest:
    """-1 asks for a seed to be drawn: once and here, so that every attempt at the job uses the same."""
    return request if request.base_seed >= 0 else request.model_copy(update={"base_seed": secrets.randbelow(2**32)})


def local(source: str, field: str) -> Path | bytes | None:
    """What the caller holds, as a file or as bytes; None for what lies elsewhere, InvalidInput for nothing at all."""
    from farm.media.fetch import inline

    if source.lower().startswith(("http://", "https://", keys.SCHEME)):
        return None
    if source[:5].lower() == "data:":
        return inline(source, field=field, max_bytes=2**31)
    try:
        path = Path(source).expanduser()
        if path.is_file():
            return path
    except (OSError, ValueError, RuntimeError):  # too long for a name, a zero byte, no such user
        pass
    if len(source) >= SHORTEST_BASE64:
        return inline(source, field=field, max_bytes=2**31)
    raise InvalidInput(
        f"{field}: got {source!r}; there is no such file; allowed: a file, an http(s) URL, a data URI, base64"
    )
