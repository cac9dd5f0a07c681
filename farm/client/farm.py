"""The front door: submit a job, follow it, take its result."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from itertools import islice, takewhile
from typing import Any

from farm.client.checks import check_media
from farm.client.job import Job
from farm.client.transports import Transport
from farm.client.uploads import LocalFiles, local_content, read_pipes
from farm.engine import journal
from farm.engine.advance import claim_step
from farm.engine.context import Context, open_context
from farm.engine.identity import check_identity
from farm.engine.retention import is_fresh
from farm.errors import FarmUnreachable, InvalidInput
from farm.job import JobRequest, JobStatus, State
from farm.job.files import batch_items
from farm.maintenance.gc import Garbage, find_garbage
from farm.maintenance.recover import Recovered, recover
from farm.registry import open_registry
from farm.route import DOWNLOAD, Step
from farm.settings import Settings
from farm.steps.allowed import check_allowed
from farm.store import keys, open_store

INLINE = "inline://"

JOB_ID_BYTES = 16
"""Too many to guess: with a job's id its video can be seen on the page."""


class Farm:
    """A farm behind the URL of a broker (by default the settings'), or `inline://`.

    For requests of strangers `local_files` says that they may name no file of this machine
    (False), or only those in a folder; such files are then checked in a sandbox.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        local_files: LocalFiles = True,
    ) -> None:
        self.local_files = local_files
        settings = settings or Settings.load(os.environ)
        self.is_inline = url == INLINE
        if self.is_inline:
            store = open_store(settings.store_address, settings)
            self.context = Context(settings, store, open_registry("memory://"))
        else:
            update = {"broker_url": url} if url else {}
            self.context = open_context(settings.model_copy(update=update))
        self.transport = _transport(self.context, inline=self.is_inline)
        self._is_checked = self.is_inline

    def submit(self, request: JobRequest | Mapping[str, Any] | None = None, **fields: Any) -> Job:
        """Registers a job and dispatches it; the same idempotency key returns the first job.

        Takes a request, or the contract's fields by name. Local files are uploaded. Raises
        InvalidInput before anything is queued, also for another request under the same key, and
        FarmUnreachable if no broker answers.
        """
        given = request.model_dump(mode="json") if isinstance(request, JobRequest) else request
        parsed = JobRequest.parse({**(given or {}), **fields})
        if self.local_files is True:
            parsed = read_pipes(parsed)
        self._check(parsed)
        self._check_identity()
        uploaded = self.upload(_with_seed(parsed))
        job_id = secrets.token_hex(JOB_ID_BYTES)
        job_id = self.context.registry.jobs.claim_idempotency_key(uploaded, job_id)
        journal.record_request(self.context, job_id, uploaded)
        self.context.registry.jobs.add(job_id, uploaded)
        if claim_step(self.context, job_id, DOWNLOAD):
            self._dispatch(job_id, DOWNLOAD)
        return Job(self.context, job_id)

    def job(self, job_id: str) -> Job:
        """A job by its id; InvalidInput if there is none."""
        self.context.registry.jobs.status(job_id)
        return Job(self.context, job_id)

    def submit_batch(
        self, requests: Iterable[JobRequest | Mapping[str, Any]] | Mapping[str, Any]
    ) -> Iterator[Job]:
        """Submits each request in turn; an invalid one raises, and the iteration may continue.

        Takes the contract's `{"batch": [...]}` too. `farm.batch` reads files, and resumes.
        """
        items = batch_items(requests) if isinstance(requests, Mapping) else requests
        return map(self._submit_item, items)

    def jobs(
        self, limit: int = 20, *, state: State | None = None, since: float | datetime = 0
    ) -> list[JobStatus]:
        """The newest jobs first: those in one state, and those submitted at `since` (seconds since
        1970) or later.
        """
        begin = since.timestamp() if isinstance(since, datetime) else since
        newest = self.context.registry.jobs.newest()
        recent = takewhile(lambda job: job.created_at >= begin, newest)
        wanted = (job for job in recent if state in (None, job.state))
        return list(islice(wanted, limit))

    def recover(self) -> Iterator[Recovered]:
        """Each job in the store, registered again and dispatched if the broker has lost it."""
        self._check_identity()
        for job_id, job_keys in journal.stored_jobs(self.context.store):
            found = recover(self.context, job_id, job_keys)
            if found.step:
                self._dispatch(job_id, found.step)
            yield found

    def gc(self, *, dry_run: bool = False) -> Iterator[Garbage]:
        """Everything that no job needs any more, after it was removed, unless `dry_run`."""
        self._check_identity()
        for found in find_garbage(self.context):
            if not dry_run:
                found.remove()
            yield found

    def cancel(self, job_ids: Iterable[str], by: str = "the caller") -> dict[str, bool]:
        """Ends many jobs, for instance a batch; False for those that had ended already.

        Raises InvalidInput, before any is ended, if there is no such job.
        """
        jobs = [self.job(job_id) for job_id in dict.fromkeys(job_ids)]
        return {job.id: job.cancel(by) for job in jobs}

    def now(self) -> float:
        """Seconds since 1970 on the clock of the farm; FarmUnreachable if no broker answers."""
        return self.context.registry.now()

    def upload(self, request: JobRequest) -> JobRequest:
        """The request with local sources replaced by their URLs in the store."""
        return request.with_sources(self._upload)

    def _upload(self, source: str, field: str) -> str:
        content = local_content(source, field, self.local_files)
        if content is None:
            return source
        try:
            key = keys.upload(content)
        except OSError as error:
            raise InvalidInput(
                f"{field}: got {source!r}; it cannot be read ({error.strerror})"
            ) from error
        if not is_fresh(self.context, key):
            self.context.store.put(key, content)
        return keys.SCHEME + key

    def _check(self, request: JobRequest) -> None:
        """Raises InvalidInput for anything that this farm does not do."""
        if self.is_inline and request.webhook:
            raise InvalidInput(
                "webhook: not supported for inline jobs, which have no process left to retry the "
                "call; allowed: null"
            )
        check_allowed(request, self.context.settings)
        check_media(request, self.context.settings, self.local_files)

    def _check_identity(self) -> None:
        """Raises InvalidInput if store and broker are those of two farms; looks once."""
        if not self._is_checked:
            check_identity(self.context)
            self._is_checked = True

    def _submit_item(self, item: JobRequest | Mapping[str, Any] | InvalidInput) -> Job:
        if isinstance(item, InvalidInput):
            raise item
        if isinstance(item, JobRequest):
            return self.submit(item)
        return self.submit({name: value for name, value in item.items() if name != "id"})

    def _dispatch(self, job_id: str, step: Step) -> None:
        """Sends the message of a step whose dispatch was claimed."""
        try:
            self.transport.dispatch(job_id, step)
        except FarmUnreachable:
            self.context.registry.steps.mark_lost(job_id, step.id)
            raise


def _transport(ctx: Context, *, inline: bool) -> Transport:
    if inline:
        from farm.client.transports.inline import InlineTransport

        return InlineTransport(ctx)
    from farm.client.transports.celery import CeleryTransport

    return CeleryTransport(ctx)


def _with_seed(request: JobRequest) -> JobRequest:
    """The request with -1 replaced by a random seed, so that every attempt uses the same.

    A request with an idempotency key gets the same seed whenever it is submitted.
    """
    if request.base_seed >= 0:
        return request
    key = request.idempotency_key or secrets.token_hex()
    seed = int.from_bytes(sha256(key.encode()).digest()[:4])
    return request.model_copy(update={"base_seed": seed})
