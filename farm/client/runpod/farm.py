"""A farm that is a serverless endpoint: submits jobs to it, and finds them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, NoReturn

from farm.client.arguments import check_state, timestamp
from farm.client.checks import check_media
from farm.client.farm import Farm
from farm.client.job import Job
from farm.client.runpod.address import EndpointAddress
from farm.client.runpod.endpoint import Endpoint
from farm.client.runpod.job import RunpodJob
from farm.client.runpod.payload import RUN_MB, embed_files, wrap_envelope
from farm.client.runpod.submissions import Submissions
from farm.client.uploads import (
    AnyRequest,
    Contents,
    as_stored,
    content_size,
    read_pipes,
    store_contents,
)
from farm.engine.context import Context, open_own_store
from farm.errors import InvalidInput
from farm.job import JobRequest, JobStatus, State, TimeLimits, resolve
from farm.maintenance.gc import Garbage
from farm.maintenance.recover import Recovered
from farm.net.runpod import QueueApi
from farm.presets import preset
from farm.registry import open_registry
from farm.registry.status_record import unknown_job
from farm.settings import Settings
from farm.store import keys

RUNPOD_URL = Settings.model_fields["runpod_url"].default
"""Behind any other URL there is a gateway, whose farm may have GPUs of its own."""

HEADER_BYTES = 500
"""Of a data URI, and of a share of the envelope."""


class RunpodFarm(Farm):
    """The farm behind `runpod://ENDPOINT_ID`, with the key in RUNPOD_API_KEY.

    RUNPOD_ENDPOINT_BASE_URL names a gateway instead of Runpod. Its registry is that of this process
    and empty: what is known about jobs is asked of the endpoint, or raises RunpodUnreachable.

    Local files of a request go along, or through the store if they are too large and FARM_STORE_URL
    is an s3:// store. An idempotency key returns the first job on this machine only. The limits of
    a job go before those of the URL.
    """

    keeps_jobs = False

    def _connect(self, url: str | None, settings: Settings) -> None:
        self.is_inline = False
        self.address = EndpointAddress.parse(url or settings.broker_address)
        api = QueueApi.of_endpoint(settings.runpod_url, self.address.endpoint, settings.runpod_key)
        self.endpoint = Endpoint(api, Submissions(settings, api.url))
        self.context = Context(settings, open_own_store(settings), open_registry("memory://"))

    def _checked(
        self, parsed: JobRequest, limits: TimeLimits, warnings: Sequence[str] | None = None
    ) -> Callable[[], Job]:
        if self.local_files is True:
            parsed = read_pipes(parsed)
        self._check_request(parsed)
        return partial(self._send, parsed, limits)

    def _send(self, parsed: JobRequest, limits: TimeLimits) -> Job:
        stored, contents = as_stored(parsed, self.local_files)
        job_id = self.endpoint.first_job(stored, self.caller)
        if job_id is None:
            body = self._body(self._sendable(parsed, stored, contents), limits)
            job_id = self.endpoint.submit(body, stored, self.caller)
        return RunpodJob(self.context, job_id, self.endpoint)

    def job(self, job_id: str) -> Job:
        """A job by its id at Runpod, wherever it was submitted; InvalidInput if there is none."""
        if not self.sees_all:
            submission = self.endpoint.submissions.find(job_id)
            if submission is None or submission.caller != self.caller:
                raise unknown_job(job_id)
        self.endpoint.status(job_id)
        return RunpodJob(self.context, job_id, self.endpoint)

    def jobs(
        self,
        limit: int = 20,
        *,
        state: State | None = None,
        since: float | datetime = 0,
        caller: str | None = None,
    ) -> list[JobStatus]:
        """As of any farm, but only those that were submitted from this machine."""
        check_state(state)
        submitted = self.endpoint.submissions.newest(
            caller=caller if self.sees_all else self.caller, since=timestamp(since)
        )
        statuses = (self.endpoint.status(each.job_id) for each in submitted)
        wanted = (status for status in statuses if state in (None, status.state))
        return list(islice(wanted, limit))

    def job_ids(self) -> Iterator[str]:
        caller = None if self.sees_all else self.caller
        return (each.job_id for each in self.endpoint.submissions.newest(caller=caller, since=0))

    def upload(self, request: AnyRequest) -> AnyRequest:
        """The request with local sources as URLs in an s3:// store, or else as data URIs."""
        if self._has_reachable_store:
            return super().upload(request)
        return embed_files(request, self.local_files)

    def recover(self) -> Iterator[Recovered]:
        self._refuse("recover")

    def gc(self, *, dry_run: bool = False) -> Iterator[Garbage]:
        self._refuse("gc")

    def _refuse(self, action: str) -> NoReturn:
        raise InvalidInput(
            f"{action}: got runpod://{self.address.endpoint}, which keeps its jobs itself; "
            "allowed: a farm with a broker"
        )

    @property
    def _has_reachable_store(self) -> bool:
        return self.context.settings.store_address.startswith("s3://")

    def _check_request(self, request: JobRequest) -> None:
        """Checks placement, and files as far as the model is known that will use them."""
        settings = self.context.settings
        self._check_allowed(request)
        try:
            resolved = resolve(request, preset(request.model or settings.presets[0]))
        except InvalidInput:
            if request.model:
                raise
            return  # the endpoint's own default may be another model
        check_media(resolved, settings, self.local_files)

    def _check_allowed(self, request: JobRequest) -> None:
        """Raises InvalidInput for what no endpoint does; the rest depends on its own settings."""
        if request.placement == "local" and self.context.settings.runpod_url == RUNPOD_URL:
            raise InvalidInput(
                "placement: got 'local', and Runpod's workers are rented; allowed: any"
            )

    def _sendable(self, request: JobRequest, stored: JobRequest, contents: Contents) -> JobRequest:
        """The request with all sources as URLs or data URIs, which is small enough for /run.

        `stored` is the same one with its `contents` in the store.
        """
        size = len(stored.model_dump_json().encode()) + _base64_bytes(stored, contents)
        if size <= RUN_MB * 1_000_000:
            return embed_files(request, self.local_files).with_sources(self._signed)
        if not self._has_reachable_store:
            raise InvalidInput(
                f"request: its size is {size / 1e6:.1f} MB; allowed: {RUN_MB} MB, which Runpod "
                "accepts, files by URL, or an s3:// store to upload them to (FARM_STORE_URL)"
            )
        store_contents(self.context, contents)
        return stored.with_sources(self._signed)

    def _signed(self, source: str, field: str) -> str:
        """A source with a signed URL instead of a key of the store."""
        if not source.startswith(keys.SCHEME):
            return source
        if not self._has_reachable_store:
            raise InvalidInput(
                f"{field}: got {source!r}, which an endpoint cannot read; "
                "allowed: keys of an s3:// store (FARM_STORE_URL)"
            )
        return self.context.store.url(source.removeprefix(keys.SCHEME))

    def _body(self, request: JobRequest, limits: TimeLimits) -> dict[str, Any]:
        """The envelope. The input repeats the limits, of which Runpod tells the worker nothing."""
        fields = request.model_dump(mode="json", exclude_unset=True)
        body = wrap_envelope(
            fields,
            execution_s=limits.execution_s or self.address.execution_s,
            ttl_s=limits.ttl_s or self.address.ttl_s,
        )
        if "policy" in body:
            body["input"] = {**fields, "policy": body["policy"]}
        return body


def _base64_bytes(stored: JobRequest, contents: Contents) -> int:
    """The length of a request's contents as data URIs."""
    sizes = []

    def measure(source: str, _: str) -> str:
        content = contents.get(source.removeprefix(keys.SCHEME))
        if content is not None:
            sizes.append(HEADER_BYTES + 4 * (content_size(content) // 3 + 1))
        return source

    stored.with_sources(measure)
    return sum(sizes)
