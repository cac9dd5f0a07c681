"""One endpoint as this machine knows it: its queue, and the jobs that were submitted from here."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from farm.client.runpod.status import Progress, advance, forgotten
from farm.client.runpod.submissions import Submission, Submissions
from farm.errors import InvalidInput
from farm.job import JobRequest, JobStatus
from farm.logs import log
from farm.net.runpod import JOB_ID, QueueApi, RemoteStatus, RunpodUnreachable
from farm.registry.status_record import queued, unknown_job

FRESH_S = 1.0
"""Runpod is asked once in this time for a job, however often its status is read."""

SETTLING_S = 60.0
"""A job that is younger is not taken for forgotten."""

MAX_SEEN = 1_000
"""Jobs whose last status is kept in memory."""


@dataclass(frozen=True)
class Seen:
    """What Runpod last said about a job, and when, in seconds of `time.monotonic`."""

    status: JobStatus
    progress: Progress
    worker: str | None
    at: float

    @property
    def is_fresh(self) -> bool:
        return self.status.ended or time.monotonic() - self.at < FRESH_S

    def advanced(self, remote: RemoteStatus, now: float) -> Seen:
        """What is seen after what Runpod says at `now`, in seconds since 1970."""
        progress = self.progress
        if not remote.ended:
            rerun = remote.worker_id != self.worker
            progress = progress.advanced(Progress.read(remote.output), rerun=rerun)
        status = advance(self.status, remote, progress, now)
        return Seen(status, progress, remote.worker_id, time.monotonic())


@dataclass
class Endpoint:
    """Its methods may be called from many threads."""

    api: QueueApi
    submissions: Submissions
    _seen: dict[str, Seen] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def submit(self, body: Mapping[str, Any], request: JobRequest, caller: str) -> str:
        """The id of a new job.

        Raises RunpodUnreachable, without a suggestion to retry if the job may have been accepted.
        """
        self.submissions.check_writable()
        try:
            job_id = self.api.run(body)
        except RunpodUnreachable as error:
            if error.accepted is False:
                raise
            raise RunpodUnreachable(
                f"{error.message}; the job may have been accepted, so it is not submitted again",
                retryable=False,
            ) from error
        key = request.idempotency_key
        submission = Submission(job_id, caller, time.time(), key, request.digest)
        try:
            self.submissions.add(submission)
        except InvalidInput as error:  # the job exists all the same
            log("submission_not_recorded", job_id=job_id, reason=error.message)
        return job_id

    def first_job(self, request: JobRequest, caller: str) -> str | None:
        """The job that a caller submitted from here with the idempotency key of a request.

        Raises InvalidInput if that was another request.
        """
        key = request.idempotency_key
        first = self.submissions.of_key(caller, key) if key else None
        if first is None:
            return None
        if first.digest != request.digest:
            raise InvalidInput(
                f"idempotency_key: got {key!r}; job {first.job_id} was submitted with it and "
                "another request; allowed: the same request, or a new key"
            )
        return first.job_id

    def status(self, job_id: str) -> JobStatus:
        """The status of a job; InvalidInput if neither Runpod nor this machine knows it."""
        if not re.fullmatch(JOB_ID, job_id):
            raise unknown_job(job_id)
        seen = self._seen.get(job_id)
        return seen.status if seen and seen.is_fresh else self._refreshed(job_id)

    def cancel(self, job_id: str) -> bool:
        """Ends a job; False if it had ended already."""
        if self.status(job_id).ended:
            return False
        self.api.cancel(job_id)
        status = self._refreshed(job_id)
        return status.state == "cancelled" or not status.ended

    def _refreshed(self, job_id: str) -> JobStatus:
        """The status as Runpod has it now."""
        seen = self._look(job_id, self._seen.get(job_id))
        with self._lock:
            self._seen.pop(job_id, None)
            self._seen[job_id] = seen
            if len(self._seen) > MAX_SEEN:
                del self._seen[next(iter(self._seen))]
        return seen.status

    def _look(self, job_id: str, seen: Seen | None) -> Seen:
        """What Runpod says now; the end of a job that was submitted from here is recorded."""
        submission = self.submissions.find(job_id)
        if submission and submission.final_status:
            return Seen(submission.final_status, Progress(), None, time.monotonic())
        remote = self.api.status(job_id)
        now = time.time()
        if remote is None:
            status = self._unknown(job_id, submission, now)
            return Seen(status, Progress(), None, time.monotonic())
        if seen is None:
            age_s = (remote.delay_ms + remote.execution_ms) / 1000
            status = _first_status(job_id, submission, now - age_s)
            seen = Seen(status, Progress(), remote.worker_id, time.monotonic())
        looked = seen.advanced(remote, now)
        if looked.status.ended:
            with suppress(InvalidInput):  # asked again as long as Runpod has it
                self.submissions.end(looked.status)
        return looked

    def _unknown(self, job_id: str, submission: Submission | None, now: float) -> JobStatus:
        if submission is None:
            raise unknown_job(job_id)
        status = _first_status(job_id, submission, now)
        return status if now - submission.created_at < SETTLING_S else forgotten(status, now)


def _first_status(job_id: str, submission: Submission | None, created_at: float) -> JobStatus:
    """The status before Runpod said anything; of a job from elsewhere the caller is not known."""
    if submission is None:
        return queued(job_id, created_at)
    return queued(job_id, submission.created_at, submission.caller)
