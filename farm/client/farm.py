"""The front door: hand in a job, follow it, take its result."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice, takewhile
from typing import Any

from farm.client.job import Job
from farm.client.transports import Transport
from farm.client.uploads import local
from farm.engine import journal
from farm.engine.context import Context, open_context
from farm.engine.route import FIRST, Step
from farm.errors import FarmUnreachable, InvalidInput
from farm.job import JobRequest, JobStatus, State
from farm.job.files import batch_items
from farm.maintenance.gc import Waste, waste
from farm.maintenance.recover import Recovered, recover
from farm.registry import open_registry
from farm.settings import Settings
from farm.steps.allowed import check_allowed
from farm.store import keys, open_store

INLINE = "inline://"


class Farm:
    """A farm behind a broker's URL, or in this process for `inline://`; without a URL the one of the settings."""

    def __init__(self, url: str | None = None, *, settings: Settings | None = None) -> None:
        settings = settings or Settings.load(os.environ)
        if url == INLINE:
            ctx = Context(settings, open_store(settings.store_address, settings), open_registry("memory://"))
        else:
            ctx = open_context(settings.model_copy(update={"broker_url": url}) if url else settings)
        self.context = ctx
        self.here = url == INLINE
        self.transport = _transport(ctx, inline=self.here)

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
            job_id = self.context.registry.claim(entered.idempotency_key, job_id)
        entered = self.upload(_with_seed(entered))
        journal.enter(self.context, job_id, entered)
        self.context.registry.add(job_id, entered)
        if self.context.registry.ring(job_id, FIRST.id, window_s=self.context.settings.ring_s):
            self._send(job_id, FIRST)
        return Job(self.context, job_id)

    def job(self, job_id: str) -> Job:
        """A job by its id; InvalidInput if there is none."""
        self.context.registry.job(job_id)
        return Job(self.context, job_id)

    def submit_batch(self, requests: Iterable[JobRequest | Mapping[str, Any]] | Mapping[str, Any]) -> Iterator[Job]:
        """Each request's job, once it is entered; a wrong one raises in its turn, and the next may be asked for.

        Takes the contract's `{"batch": [...]}` too. `farm.batch` does files, and goes on where it stopped.
        """
        return map(self._submit_item, batch_items(requests) if isinstance(requests, Mapping) else requests)

    def jobs(self, limit: int = 20, *, state: State | None = None, since: float | datetime = 0) -> list[JobStatus]:
        """The newest jobs first: those in one state, and those entered at `since` (seconds since 1970) or later."""
        begin = since.timestamp() if isinstance(since, datetime) else since
        recent = takewhile(lambda job: job.created_at >= begin, self.context.registry.jobs())
        return list(islice((job for job in recent if state in (None, job.state)), limit))

    def recover(self) -> Iterator[Recovered]:
        """Each job that the store holds, after it was entered again if the broker has lost it, and sent on its way."""
        for job_id, names in journal.jobs(self.context.store):
            found = recover(self.context, job_id, names)
            if found.step:
                self._send(job_id, found.step)
            yield found

    def gc(self, *, dry_run: bool = False) -> Iterator[Waste]:
        """Everything that nobody needs any more, after it was removed; with `dry_run` nothing is."""
        for found in waste(self.context):
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
        check_allowed(request, self.context.settings)

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
            self.context.registry.lost(job_id, step.id)
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
        if self.context.store.size(key) is None:
            self.context.store.put(key, content)
        return keys.SCHEME + key


def _transport(ctx: Context, *, inline: bool) -> Transport:
    if inline:
        from farm.client.transports.inline import InlineTransport

        return InlineTransport(ctx)
    from farm.client.transports.celery import QueuedTransport

    return QueuedTransport(ctx)


def _with_seed(request: JobRequest) -> JobRequest:
    """-1 asks for a seed to be drawn: once and here, so that every attempt at the job uses the same."""
    return request if request.base_seed >= 0 else request.model_copy(update={"base_seed": secrets.randbelow(2**32)})
