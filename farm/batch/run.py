"""A running batch: a limited number of its jobs at a time, and each row's outcome as it ends."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from farm.batch.results import CHANGED, INVALID, Outcome, Results, outcome_of_error, outcome_of_job
from farm.batch.rows import Row, rows
from farm.client import Farm, Job
from farm.client.uploads import as_stored
from farm.errors import FarmUnreachable, InvalidInput, QuotaExceeded, UploadFailed
from farm.job import JobStatus, Priority
from farm.retry import retry_until
from farm.store import integrity

POLL_INTERVAL_S = 0.5
CHANGED_MESSAGE = "it was changed since its video was made; --remake makes another"
RETRY_S = 300.0
"""How long calls are retried while the broker or the store is down."""

Answer = TypeVar("Answer")


class BatchSpec(BaseModel):
    """A batch as the farm stores it: its file, its results, and how it runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path
    output: Path
    priority: Priority = "low"
    max_in_flight: int = Field(20, ge=1)
    save: Path | None = None
    """The folder for the videos."""

    @property
    def id(self) -> str:
        """The same for the same file, so that the same command resumes."""
        return _digest(str(self.file))[:12]


def save_batch(farm: Farm, spec: BatchSpec) -> None:
    """Stores a batch for `load_batch`."""
    integrity.put_sealed(farm.context.store, _key(spec.id), spec.model_dump_json().encode())


def load_batch(farm: Farm, batch_id: str) -> BatchSpec:
    """The batch that was stored under an id; InvalidInput if there is none."""
    try:
        stored = integrity.get_sealed(farm.context.store, _key(batch_id))
    except (KeyError, InvalidInput):
        raise InvalidInput(
            f"batch: got {batch_id!r}; there is no such batch (`farm batch run` prints its id)"
        ) from None
    return BatchSpec.model_validate_json(stored)


def ignore_warning(row_id: str, warning: str) -> None:
    """For callers who read the outcomes alone."""


@dataclass
class Batch:
    """The rows of a batch on a farm; FarmUnreachable if no broker answers.

    Jobs that failed before `started_at`, on the farm's clock, belong to an earlier run and are
    tried again.
    """

    farm: Farm
    spec: BatchSpec
    results: Results
    remake: bool = False
    """Whether rows that were changed since their video was made are made again."""
    in_flight: dict[str, Job] = field(default_factory=dict)
    """The jobs that have not ended, by the ids of their rows."""
    origins: dict[str, dict[str, str]] = field(default_factory=dict)
    """Line and digest of the rows of these jobs."""
    warn: Callable[[str, str], None] = ignore_warning
    """Called with the id of a row and a warning, as soon as there is one."""
    warned: set[tuple[str, str]] = field(default_factory=set)
    started_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.started_at = retry_while_down(self.farm.now)

    def run(self) -> Iterator[Outcome]:
        """The outcome of every row that has no video yet, as it ends, after it is written; also of
        those that have one but were changed.

        Raises FarmUnreachable or UploadFailed if the farm was down for RETRY_S or has lost the
        batch's jobs, and QuotaExceeded if there is no job of the batch whose end could make room.
        If the caller stops reading, submitted jobs continue.
        """
        for row in rows(self.spec.file):
            if row.id in self.results.done and not row.error:
                if not self._is_changed(row):
                    continue
                if not self.remake:
                    yield Outcome(row.id, CHANGED, message=CHANGED_MESSAGE, line=str(row.line))
                    continue
            while len(self.in_flight) >= self.spec.max_in_flight:
                yield from self._completed()
            yield from self._start(row)
        while self.in_flight:
            yield from self._completed()

    def _start(self, row: Row) -> Iterator[Outcome]:
        """Submits a row; the outcomes of jobs that end while the caller's quota is used up."""
        while True:
            try:
                with row.as_typed():
                    self.in_flight[row.id] = self._job(row)
            except InvalidInput as error:
                yield self._write(outcome_of_error(row.id, error), {"line": str(row.line)})
            except QuotaExceeded as error:
                if not (error.retryable and self.in_flight):
                    raise
                yield from self._completed()
                continue
            return

    def _completed(self) -> Iterator[Outcome]:
        """The outcomes of jobs that have ended since the last call; waits a moment without any."""
        any_ended = False
        for row_id, job in list(self.in_flight.items()):
            status = self._status(job)
            self._say_warnings(row_id, status)
            if status.ended:
                any_ended = True
                del self.in_flight[row_id]
                yield self._write(outcome_of_job(row_id, status), self.origins.pop(row_id))
        if not any_ended:
            time.sleep(POLL_INTERVAL_S)

    def _say_warnings(self, row_id: str, status: JobStatus) -> None:
        """Says each warning of a row once."""
        for warning in status.warnings:
            if (row_id, warning) not in self.warned:
                self.warned.add((row_id, warning))
                self.warn(row_id, warning)

    def _status(self, job: Job) -> JobStatus:
        try:
            return retry_while_down(job.status)
        except InvalidInput as error:
            raise FarmUnreachable(
                f"the broker has lost job {job.id}; `farm recover`, then the same command again",
                retryable=False,
            ) from error

    def _write(self, outcome: Outcome, origin: Mapping[str, str]) -> Outcome:
        written = replace(outcome, **origin)
        self.results.add(written)
        return written

    def _is_changed(self, row: Row) -> bool:
        """Whether a row, or a file of it, is another one than its video was made of."""
        made_of = self.results.made[row.id].get("digest")
        if not made_of:
            return False
        try:
            stored, _ = as_stored(row.request(), self.farm.local_files)
        except InvalidInput:
            return True
        return stored.digest != made_of

    def _job(self, row: Row) -> Job:
        """The job of a row: that of an earlier run, unless it ended without a video.

        The idempotency key of a row's own always has the same job, however that ended.
        """
        request = row.request()
        stored, _ = as_stored(request, self.farm.local_files)
        self.origins[row.id] = {"line": str(row.line), "digest": stored.digest}
        fields: dict[str, Any] = request.model_dump(mode="json")
        if "priority" not in request.model_fields_set:
            fields["priority"] = self.spec.priority
        if request.idempotency_key:
            return self._submit(fields)
        # Each attempt at a row has a key, so an earlier run's job is found again, not repeated. A
        # row or a file that was changed since then makes another.
        attempt = 0
        while True:
            key = _digest(f"{self.spec.file}\0{row.id}\0{stored.digest}\0{attempt}")
            job = self._submit({**fields, "idempotency_key": key})
            if not self._failed_before(job):
                return job
            attempt += 1

    def _failed_before(self, job: Job) -> bool:
        status = self._status(job)
        return status.without_video and status.created_at < self.started_at

    def _submit(self, fields: dict[str, Any]) -> Job:
        return retry_while_down(lambda: self.farm.submit(fields))


def retry_while_down(call: Callable[[], Answer]) -> Answer:
    """The result of a call to the farm, retried for RETRY_S while the broker or store is down."""
    return retry_until(call, timeout_s=RETRY_S, is_retryable=_is_down, delay_s=POLL_INTERVAL_S)


def _is_down(error: Exception) -> bool:
    return isinstance(error, FarmUnreachable | UploadFailed) and error.retryable


SUMMARY_LABELS = {
    "success": "succeeded",
    INVALID: "invalid",
    "error": "failed",
    "cancelled": "cancelled",
    CHANGED: "changed",
}


def summary(counts: dict[str, int]) -> str:
    """The number of rows by their outcome, for example `3 succeeded, 1 failed`."""
    parts = [
        f"{counts[status]} {label}"
        for status, label in SUMMARY_LABELS.items()
        if counts.get(status)
    ]
    return ", ".join(parts) or "nothing"


def _key(batch_id: str) -> str:
    return f"batches/{batch_id}.json"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
