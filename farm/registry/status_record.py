"""The status of a job as a record; of one in another format, what every format has."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ValidationError

from farm.caller import LOCAL
from farm.errors import UnknownJob, VersionSkew
from farm.job import Event, JobStatus, State
from farm.registry.formats import dump, load


class StatusRecord:
    """The status of a job as a record, None while there is no such job."""

    def __init__(self, status: JobStatus | None, passed: Sequence[Event] = ()) -> None:
        """`passed` are events on the way to this status, without its own."""
        self.status = status
        self.passed = passed

    @property
    def text(self) -> str:
        if self.status is None:
            raise ValueError("a job that does not exist has no text")
        return dump(self.status)


def queued(
    job_id: str, created_at: float, caller: str = LOCAL, warnings: Sequence[str] = ()
) -> JobStatus:
    """The status of a job that no worker has begun."""
    return JobStatus(
        job_id=job_id,
        caller=caller,
        state="queued",
        stage="queued",
        pct=0,
        details={},
        created_at=created_at,
        updated_at=created_at,
        warnings=tuple(warnings),
    )


def parse_status(job_id: str, text: str | None) -> JobStatus:
    """The status in a text; UnknownJob if there is no such job, VersionSkew if unreadable."""
    if text is None:
        raise unknown_job(job_id)
    return load(text, JobStatus, name=f"job {job_id}: its status")


def unknown_job(job_id: str) -> UnknownJob:
    return UnknownJob(f"job_id: got {job_id!r}; there is no such job (`farm jobs` lists them)")


class _OutlineFields(BaseModel):
    """What a status has in every format."""

    state: State = "running"
    created_at: float = 0


class _OutlineText(BaseModel):
    record: _OutlineFields = _OutlineFields()


def outline(job_id: str, text: str) -> JobStatus:
    """The status in a text; of one that this version cannot read, what every format has.

    The details then hold the error.
    """
    try:
        return parse_status(job_id, text)
    except VersionSkew as error:
        kept = _kept(text)
        return JobStatus(
            job_id=job_id,
            state=kept.state,
            stage="unreadable",
            pct=0,
            details={"code": error.code, "message": error.message},
            created_at=kept.created_at,
            updated_at=kept.created_at,
        )


def _kept(text: str) -> _OutlineFields:
    try:
        return _OutlineText.model_validate_json(text).record
    except ValidationError:
        return _OutlineFields()
