"""The front door: submit a job, follow it, take its result."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from datetime import datetime
from functools import partial
from itertools import islice, takewhile
from typing import Any, ClassVar, Self, Unpack

from farm.caller import check_caller, local_user
from farm.client.arguments import check_inline, check_state, parse_request, timestamp
from farm.client.checks import check_media, check_uploads, check_urls
from farm.client.estimate import Estimator, audio_seconds
from farm.client.job import Job
from farm.client.models import accept
from farm.client.transports import open_transport
from farm.client.uploads import (
    AnyRequest,
    Contents,
    LocalFiles,
    as_stored,
    content_size,
    read_pipes,
    store_contents,
)
from farm.client.voices import check_kokoro, kokoro_names, voices
from farm.engine import journal
from farm.engine.accounting import demand_of
from farm.engine.advance import claim_step
from farm.engine.context import Context, open_context
from farm.engine.identity import check_identity
from farm.errors import (
    FarmUnreachable,
    InvalidInput,
    QuotaExceeded,
    all_mistakes,
)
from farm.estimate import Estimate, check_cost
from farm.job import JobRequest, JobStatus, ResolvedRequest, State, TimeLimits
from farm.job.fields import JobFields
from farm.job.files import batch_items
from farm.job.seed import with_seed
from farm.job.time_limits import NO_LIMITS
from farm.job.voices import Voice
from farm.logs import log
from farm.maintenance.gc import Garbage, find_garbage
from farm.maintenance.recover import Recovered, recover
from farm.plan import frames_of
from farm.queue.positions import queue_positions
from farm.registry import open_registry
from farm.registry.accounts import Demand, Quota
from farm.registry.status_record import unknown_job
from farm.route import DOWNLOAD, Step
from farm.settings import Settings
from farm.steps.allowed import check_allowed, check_request_bytes
from farm.store import open_store

INLINE = "inline://"
RUNPOD = "runpod://"

JOB_ID_BYTES = 16
"""Too many to guess: keys in the store, and so URLs of videos, contain a job's id."""


class Farm:
    """A farm behind the URL of a broker (by default the settings'), or `inline://`.

    It submits jobs of FARM_CALLER, by default the user of this process, and sees those of all
    callers; `as_caller` returns one for the requests of another person or program.

    For requests of strangers `local_files` says that they may name no file of this machine
    (False), or only those in a folder, which are checked in a sandbox. Then they may name neither
    private addresses nor uploads of other callers.

    Behind `runpod://ENDPOINT_ID` there is a serverless endpoint, or a gateway (`RunpodFarm`).
    """

    keeps_jobs: ClassVar = True
    """Whether requests and videos can be read until they are deleted, unlike an endpoint's."""

    def __new__(cls, url: str | None = None, *, settings: Settings | None = None, **_: Any) -> Farm:
        """A farm of the class that its URL asks for, as `pathlib.Path` has one for each system."""
        if url is None:
            url = (settings or Settings.load(os.environ)).broker_url
        if cls is Farm and url and url.startswith(RUNPOD):
            from farm.client.runpod.farm import RunpodFarm

            return object.__new__(RunpodFarm)
        return object.__new__(cls)

    def __copy__(self) -> Self:
        """Of the same class, whatever the environment says by now."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        return twin

    def __init__(
        self,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        local_files: LocalFiles = True,
    ) -> None:
        self.local_files = local_files
        settings = settings or Settings.load(os.environ)
        self.caller = settings.caller or local_user()
        self.quota = Quota.of(settings)
        self.sees_all = True
        self._connect(url, settings)

    def _connect(self, url: str | None, settings: Settings) -> None:
        self.is_inline = url == INLINE
        if self.is_inline:
            store = open_store(settings.store_address, settings)
            self.context = Context(settings, store, open_registry("memory://"))
        else:
            self.context = open_context(settings.with_broker(url) if url else settings)
        self.transport = open_transport(self.context, inline=self.is_inline)
        self._is_checked = self.is_inline

    def as_caller(self, name: str, quota: Quota | None = None) -> Self:
        """The same farm for one caller, who sees, reads and cancels only jobs of this name.

        The name comes from the service that the caller uses, such as its login, never from the
        request; `quota` is the settings' unless it is given. Raises InvalidInput if the name is not
        1 to 64 characters of A-Z a-z 0-9 . _ @ + -
        """
        bound = copy(self)
        bound.caller = check_caller(name)
        bound.quota = quota or self.quota
        bound.sees_all = False
        return bound

    def submit(
        self,
        request: JobRequest | Mapping[str, Any] | None = None,
        *,
        limits: TimeLimits = NO_LIMITS,
        **fields: Unpack[JobFields],
    ) -> Job:
        """Registers a job and dispatches it; the same idempotency key returns the first job.

        Takes a request, or the contract's fields by name. Local files are uploaded; they may also
        be given as bytes, or as files that are open in binary mode. A job that
        exceeds one of its time `limits` is ended by a cpu worker, as E_TIMEOUT. Raises
        InvalidInput before anything is queued, also for another request under the same key,
        QuotaExceeded, and FarmUnreachable if no broker answers.
        """
        parsed = parse_request(request, fields, self.context.settings, self.local_files)
        return self._checked(parsed, limits)()

    def _checked(
        self, parsed: JobRequest, limits: TimeLimits, warnings: Sequence[str] | None = None
    ) -> Callable[[], Job]:
        """The submission, to be called, of a request that has passed all checks, with the
        `warnings` of an earlier job of it.
        """
        if self.is_inline:
            check_inline(parsed, limits)
        accepted, recordings = self._accepted(parsed)
        audio_s = audio_seconds(accepted, recordings)
        return partial(self._submit, accepted, audio_s, limits, warnings)

    def _submit(
        self,
        accepted: ResolvedRequest,
        audio_s: float | None,
        limits: TimeLimits,
        warnings: Sequence[str] | None,
    ) -> Job:
        self._check_identity()
        stored, contents = as_stored(with_seed(accepted), self.local_files)
        if warnings is None:
            warnings = stored.cut(frames_of(audio_s))
        new_id = secrets.token_hex(JOB_ID_BYTES)
        first_id = self.context.registry.entries.first_job(stored, self.caller)
        job_id = first_id or self._enter(new_id, stored, contents, audio_s, limits, warnings)
        # The dispatch of a new job is claimed with its entry.
        if job_id == new_id or claim_step(self.context, job_id, DOWNLOAD):
            self._dispatch(job_id, DOWNLOAD)
        return Job(self.context, job_id)

    async def asubmit(
        self,
        request: JobRequest | Mapping[str, Any] | None = None,
        *,
        limits: TimeLimits = NO_LIMITS,
        **fields: Unpack[JobFields],
    ) -> Job:
        """The same, without blocking the event loop."""
        return await asyncio.to_thread(lambda: self.submit(request, limits=limits, **fields))

    def estimate(
        self,
        request: JobRequest | Mapping[str, Any] | None = None,
        *,
        estimator: Estimator | None = None,
        **fields: Unpack[JobFields],
    ) -> Estimate:
        """What a job would take, after all checks of its submission; nothing is stored or queued.

        By the pace and load of the farm now, or by an `estimator`, which saves asking for them for
        each of many jobs. A pipe among the files is read to its end.
        """
        parsed = parse_request(request, fields, self.context.settings, self.local_files)
        estimator = estimator or self.estimator()
        accepted, recordings = self._accepted(parsed, estimator.models)
        estimated = estimator.estimate(accepted, recordings)
        check_cost(accepted, estimated)
        return estimated

    def estimator(self) -> Estimator:
        """What estimates need of the farm, as of now; without a broker the reference card."""
        return Estimator.of(self.context)

    def _accepted(
        self, request: JobRequest, models: Sequence[str] | None = None
    ) -> tuple[ResolvedRequest, list[float | None]]:
        """The request for a model, and the seconds of its recordings, after all checks."""
        settings = self.context.settings
        with all_mistakes() as check:
            check(self._check_allowed, request)
            if self.local_files is not True:
                check(check_urls, request, settings)
            check(check_kokoro, request, self._kokoro_voices)
            accepted = accept(request, models or self.models(), settings)
            if self.local_files is True:
                accepted = read_pipes(accepted)
            buckets = accepted.preset.buckets(accepted.size)
            recordings = check_media(accepted, settings, self.local_files, buckets=buckets)
            check_request_bytes(accepted, settings)  # which is a little longer
        return accepted, recordings

    def _kokoro_voices(self) -> list[str] | None:
        """Kokoro's voices that the workers have; None if that is not known."""
        if self.is_inline:
            return kokoro_names(self.context.settings)
        with suppress(FarmUnreachable):
            return self.context.registry.workers.kokoro_voices()
        return None

    def _enter(
        self,
        new_id: str,
        request: ResolvedRequest,
        contents: Contents,
        audio_s: float | None,
        limits: TimeLimits,
        warnings: Sequence[str],
    ) -> str:
        """The id of a new job, or of the one that has got its idempotency key meanwhile.

        Its cost is checked before anything is stored, as far as its length is known, and its
        quota, again when the job is entered. The dispatch of a new one is claimed with its entry.
        """
        if request.max_cost is not None:
            check_cost(request, self.estimator().estimate(request, [audio_s]))
        sizes = {key: content_size(content) for key, content in contents.items()}
        demand = demand_of(self.context, request, audio_s=audio_s, sizes=sizes)
        if self.local_files is not True:
            stored = {key: size for key, size in demand.uploads.items() if key not in contents}
            is_own = partial(self.context.registry.accounts.has_upload, self.caller)
            check_uploads(request, stored, is_own)
        if contents:
            self.context.registry.entries.check_quota(self.caller, demand, self.quota)
            store_contents(self.context, contents)
        job_id = self._register(new_id, request, demand, limits, warnings)
        log("job_accepted", job_id=job_id, caller=self.caller, gpu_s=round(demand.gpu_s))
        return job_id

    def _register(
        self,
        new_id: str,
        request: ResolvedRequest,
        demand: Demand,
        limits: TimeLimits,
        warnings: Sequence[str],
    ) -> str:
        """Records a request in the journal first, and withdraws it if it makes no job."""
        journal.record_request(self.context, new_id, request, self.caller, limits)
        try:
            job_id = self.context.registry.entries.add(
                new_id,
                request,
                caller=self.caller,
                demand=demand,
                quota=self.quota,
                limits=limits,
                warnings=warnings,
                along=[self.context.registry.steps.dispatch_change(new_id, DOWNLOAD.id)],
            )
        except (InvalidInput, QuotaExceeded):
            journal.withdraw_request(self.context, new_id)
            raise
        if job_id != new_id:
            journal.withdraw_request(self.context, new_id)
        return job_id

    def job(self, job_id: str) -> Job:
        """A job by its id; InvalidInput if there is none."""
        caller = self.context.registry.jobs.status(job_id).caller
        if not self.sees_all and caller != self.caller:
            raise unknown_job(job_id)
        return Job(self.context, job_id)

    def job_ids(self) -> Iterator[str]:
        """Ids of the jobs that it sees, the newest first."""
        return self.context.registry.jobs.ids(None if self.sees_all else self.caller)

    def retry(self, job_id: str) -> Job:
        """A new job of the same request and caller for one that ended without a video.

        Repeated, it is the same new one, unless that has no video either. Raises InvalidInput for
        any other job.
        """
        job = self.job(job_id)
        status = job.status()
        if not status.without_video:
            raise InvalidInput(
                f"job_id: got {job_id!r}, which is {status.state}; allowed: error or cancelled"
            )
        farm = self if status.caller == self.caller else self.as_caller(status.caller, self.quota)
        while job.status().without_video:
            fields = job.request().model_dump(mode="json")
            fields["idempotency_key"] = f"retry of {job.id}"
            request = parse_request(fields, {}, self.context.settings, farm.local_files)
            limits = self.context.registry.deadlines.limits(job.id)
            # Its files are in the store by now, where nothing is probed.
            job = farm._checked(request, limits, job.status().warnings)()
        return job

    def submit_batch(
        self, requests: Iterable[JobRequest | Mapping[str, Any]] | Mapping[str, Any]
    ) -> list[Job]:
        """Submits all requests, or none if any is invalid; their jobs in the same order.

        Takes the contract's `{"batch": [...]}` too. Holds the requests, but no file that they name;
        `farm.batch` reads files of any length, skips what is invalid, and resumes. Raises
        InvalidInput with the mistakes of all, and at the request where it occurs what only its
        submission tells: QuotaExceeded, FarmUnreachable, or that its idempotency key is taken.
        """
        items = batch_items(requests) if isinstance(requests, Mapping) else requests
        with all_mistakes() as check:
            checked = [check(self._checked_item, index, item) for index, item in enumerate(items)]
        return [submit() for submit in checked]

    def jobs(
        self,
        limit: int = 20,
        *,
        state: State | None = None,
        since: float | datetime = 0,
        caller: str | None = None,
    ) -> list[JobStatus]:
        """The newest jobs first: those in one state, those submitted at `since` (seconds since
        1970) or later, and those of one caller.
        """
        check_state(state)
        begin = timestamp(since)
        if not self.sees_all:
            caller = self.caller
        newest = self.context.registry.jobs.newest(caller)
        recent = takewhile(lambda job: job.created_at >= begin, newest)
        wanted = (job for job in recent if state in (None, job.state))
        return [job.at(self.now()) for job in islice(wanted, limit)]

    def requests(self, job_ids: Sequence[str]) -> dict[str, ResolvedRequest]:
        """The requests of jobs that it sees, by id; without those that are not known any more."""
        return self.context.registry.jobs.requests(job_ids)

    def queue_positions(self) -> dict[str, int]:
        """The place of each job that waits for a worker, as `Job.queue_position` has it, by id."""
        return queue_positions(self.context.registry)

    def recover(self) -> Iterator[Recovered]:
        """Each job in the store, registered again and dispatched if the broker has lost it."""
        self._check_operator("recover")
        self._check_identity()
        for job_id, job_keys in journal.stored_jobs(self.context.store):
            found = recover(self.context, job_id, job_keys)
            if found.step:
                self._dispatch(job_id, found.step)
            yield found

    def gc(self, *, dry_run: bool = False) -> Iterator[Garbage]:
        """Everything that no job needs any more, after it was removed, unless `dry_run`."""
        self._check_operator("gc")
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

    def delete(self, job_ids: Iterable[str], by: str = "the caller") -> None:
        """Removes many jobs for good, those that go on too; see `Job.delete`.

        Raises InvalidInput, before any is removed, if there is no such job.
        """
        for job in [self.job(job_id) for job_id in dict.fromkeys(job_ids)]:
            job.delete(by)

    def models(self) -> list[str]:
        """The models that a job may name, the farm's default first.

        Those of its gpu workers, or FARM_PRESETS as long as none has been seen. Raises
        FarmUnreachable.
        """
        return self.context.registry.workers.models() or list(self.context.settings.presets)

    def voices(self, language: str | None = None) -> list[Voice]:
        """The voices that a job may name: espeak-ng's, and Kokoro's if it is installed here.

        `language` is a code such as `de`, or a name such as `german` or `deutsch`. Any voice of
        espeak-ng may be followed by a variant, `de+f3`.
        """
        return voices(self.context.settings, language)

    def now(self) -> float:
        """Seconds since 1970 on the clock of the farm; FarmUnreachable if no broker answers."""
        return self.context.registry.now()

    def upload(self, request: AnyRequest) -> AnyRequest:
        """The request with local sources replaced by their URLs in the store."""
        stored, contents = as_stored(request, self.local_files)
        store_contents(self.context, contents)
        return stored

    def _check_operator(self, action: str) -> None:
        if not self.sees_all:
            raise InvalidInput(f"{action}: got caller {self.caller!r}; allowed: the operator")

    def _check_allowed(self, request: JobRequest) -> None:
        """Raises InvalidInput for anything that this farm does not do, whatever the model."""
        with all_mistakes() as check:
            check(self._check_priority, request)
            check(check_allowed, request, self.context.settings)

    def _check_priority(self, request: JobRequest) -> None:
        allowed = self.context.settings.high_priority_callers
        if request.priority == "high" and allowed is not None and self.caller not in allowed:
            raise InvalidInput(
                f"priority: got 'high' of caller {self.caller}; allowed: normal or low "
                "(FARM_HIGH_PRIORITY_CALLERS)"
            )

    def _check_identity(self) -> None:
        """Raises InvalidInput if store and broker are those of two farms; looks once."""
        if not self._is_checked:
            check_identity(self.context)
            self._is_checked = True

    def _checked_item(
        self, index: int, item: JobRequest | Mapping[str, Any] | InvalidInput
    ) -> Callable[[], Job]:
        """As `_checked`; errors name the item."""
        try:
            if isinstance(item, InvalidInput):
                raise item
            if isinstance(item, Mapping):
                item = {name: value for name, value in item.items() if name != "id"}
            parsed = parse_request(item, {}, self.context.settings, self.local_files)
            return self._checked(parsed, NO_LIMITS)
        except InvalidInput as error:
            lines = error.message.splitlines()
            raise InvalidInput("\n".join(f"batch.{index}.{line}" for line in lines)) from error

    def _dispatch(self, job_id: str, step: Step) -> None:
        """Sends the message of a step whose dispatch was claimed."""
        try:
            self.transport.dispatch(job_id, step)
        except FarmUnreachable:
            self.context.registry.steps.mark_lost(job_id, step.id)
            raise
