"""The contract's responses: events, status and result of a job."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from farm.caller import LOCAL, CallerName
from farm.job.contract import Contract


class Event(Contract):
    """Progress of a job; `pct` is 0 to 100 and never decreases."""

    stage: str
    pct: float
    job_id: str
    details: dict[str, Any] = Field(default_factory=dict)


STAGES = {
    "validation_started": 0,
    "validation_ok": 2,
    "downloads_started": 3,
    "downloads_ok": 8,
    "embeddings_started": 9,
    "embeddings_ok": 15,
    "pipeline_warm_started": 15,
    "pipeline_warm_ok": 18,
    "generation_started": 20,
    "muxing_started": 85,
    "muxing_ok": 90,
    "upload_started": 92,
    "upload_ok": 98,
    "completed": 100,
}
"""Percent done when a stage is reported; the chunks share the range from 20 to 85."""


class Artifact(Contract):
    """One file of a job's result."""

    type: Literal["video", "thumbnail", "manifest"]
    url: str
    mime: str
    bytes: int


class Video(Contract):
    """The talking video: H.264 and AAC in MP4."""

    url: str
    mime: Literal["video/mp4"] = "video/mp4"
    bytes: int
    thumbnail_url: str
    base64: str | None = None
    """The video itself, if `output_config` is inline."""


class Failure(Contract):
    """Why a job failed; `code` is one of farm.errors."""

    code: str
    message: str
    retryable: bool
    at_stage: str
    cause_class: str
    cause_message: str


class Result(Contract):
    """The result of a job that has ended; `timings` are in milliseconds."""

    job_id: str
    status: Literal["success", "error"]
    video: Video | None = None
    artifacts: tuple[Artifact, ...] = ()
    timings: dict[str, int] = Field(default_factory=dict)
    params: dict[str, Any] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    error: Failure | None = None


class WebhookStatus(Contract):
    """The state of a job's webhook; `attempts` counts the calls so far."""

    state: Literal["pending", "delivered", "failed"]
    attempts: int
    reason: str | None = None


State = Literal["queued", "running", "success", "error", "cancelled"]


class JobStatus(Contract):
    """The state and progress of a job; times are seconds since 1970."""

    job_id: str
    caller: CallerName = LOCAL
    state: State
    stage: str
    pct: float
    details: dict[str, Any]
    created_at: float
    updated_at: float
    started_at: float | None = None
    """When a worker began its first step; None before that."""
    result: Result | None = None

    @property
    def ended(self) -> bool:
        return self.state in ("success", "error", "cancelled")
