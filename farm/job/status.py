"""The contract's responses: events, status and result of a job."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field

from farm.caller import LOCAL, CallerName
from farm.job.contract import Contract

MAX_SHOWN_BYTES = 50_000_000
"""Of a local video that a notebook shows, whose file keeps a third more."""


class Event(Contract):
    """Progress of a job; `pct` is 0 to 100 and never decreases."""

    stage: str
    pct: float
    job_id: str
    details: dict[str, Any] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    """All that are known by now."""


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

    @property
    def file_name(self) -> str:
        """The last part of its URL."""
        return Path(unquote(urlsplit(self.url).path)).name

    def _repr_html_(self) -> str:
        """A player and a link for notebooks, which show no files, only their content."""
        url, source = escape(self.url), escape(self._data_uri() or self.url)
        player = f'<video src="{source}" controls width="480"></video>'
        return f'{player}<p><a href="{url}">{url}</a></p>'

    def _data_uri(self) -> str | None:
        """The content, as far as it is at hand and small enough for a notebook."""
        content = self.base64
        file = Path(unquote(urlsplit(self.url).path))
        is_local = self.url.startswith("file:") and file.suffix == ".mp4" and file.is_file()
        if content is None and is_local and file.stat().st_size <= MAX_SHOWN_BYTES:
            content = b64encode(file.read_bytes()).decode()
        return content and f"data:{self.mime};base64,{content}"


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

    def _repr_html_(self) -> str | None:
        return self.video._repr_html_() if self.video else None


class WebhookStatus(Contract):
    """The state of a job's webhook; `attempts` counts the calls so far."""

    state: Literal["pending", "delivered", "failed"]
    attempts: int
    reason: str | None = None


State = Literal["queued", "running", "success", "error", "cancelled"]


class JobStatus(Contract):
    """The state and progress of a job.

    Times are seconds since 1970, as in JSON; `created`, `updated` and `started` are the same ones
    as datetimes in UTC.
    """

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
    warnings: tuple[str, ...] = ()
    """What the caller should know of the video, said as soon as it is known."""
    result: Result | None = None

    @property
    def summary(self) -> str:
        """The state and the progress, as in `running at muxing_started (85 %)`."""
        error = self.result.error if self.result else None
        stage = error.at_stage if error else self.stage
        return f"{self.state} at {stage} ({self.pct:.0f} %)"

    @property
    def created(self) -> datetime:
        return datetime.fromtimestamp(self.created_at, UTC)

    @property
    def updated(self) -> datetime:
        return datetime.fromtimestamp(self.updated_at, UTC)

    @property
    def started(self) -> datetime | None:
        return None if self.started_at is None else datetime.fromtimestamp(self.started_at, UTC)

    @property
    def ended(self) -> bool:
        return self.state in ("success", "error", "cancelled")

    @property
    def without_video(self) -> bool:
        """Whether it has ended without a video, so that it may be tried again."""
        return self.ended and self.state != "success"

    def at(self, now: float) -> Self:
        """The same, with the time that is left as of `now`: it was estimated at its last event."""
        if "eta_s" not in self.details:
            return self
        left_s = max(0.0, self.details["eta_s"] - max(0.0, now - self.updated_at))
        return self.model_copy(update={"details": {**self.details, "eta_s": round(left_s, 1)}})

    def event(self) -> Event:
        """The progress that it has now."""
        return Event(
            stage=self.stage,
            pct=self.pct,
            job_id=self.job_id,
            details=self.details,
            warnings=self.warnings,
        )
