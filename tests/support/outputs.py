"""Outputs of steps as a worker would have left them, with whatever a test wants changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from farm.job import Result
from farm.registry.outputs import (
    ChunkOutput,
    Committed,
    DownloadOutput,
    EmbedOutput,
    MuxOutput,
    NotifyOutput,
    SegmentLinks,
    StepOutput,
)
from farm.route import Step, StepKind
from tests.support.attempts import FIRST


def download_output(**changes: Any) -> DownloadOutput:
    fields = {
        "visual_kind": "image",
        "visual_key": "image.png",
        "visual_scale": 1.0,
        "visual_seconds": None,
        "audio_keys": ("voice.wav",),
        "warnings": (),
    }
    return DownloadOutput(**{**fields, **changes})


def embed_output(**changes: Any) -> EmbedOutput:
    fields = {
        "embedding_prefixes": ("shared/voice/0123",),
        "rows": 81,
        "audio_key": "voice.wav",
        "aac_keys": ("track-0000.aac",),
        "frames": 81,
        "chunks": 1,
        "cuts": (),
        "source_keys": (),
        "source_scale": 1.0,
        "weights": "0123456789ab",
        "warnings": (),
    }
    return EmbedOutput(**{**fields, **changes})


def chunk_output(
    *, link: str = "segment.m4s", init_link: str = "init.mp4", **changes: Any
) -> ChunkOutput:
    """A chunk whose playlist lines are `link` and `init_link`."""
    fields = {
        "init_key": "init.mp4",
        "segment_key": "segment.m4s",
        "links": SegmentLinks(init=init_link, segment=link),
        "frames": 81,
        "condition_key": None,
        "tail_key": None,
        "weights": "ba9876543210",
    }
    return ChunkOutput(**{**fields, **changes})


def mux_output(job_id: str = "a", **changes: Any) -> MuxOutput:
    fields = {"result": Result(job_id=job_id, status="success"), "video_key": "video.mp4"}
    return MuxOutput(**{**fields, **changes})


def notify_output(**changes: Any) -> NotifyOutput:
    fields = {"outcome": "delivered", "attempts": 1, "reason": "HTTP 204"}
    return NotifyOutput(**{**fields, **changes})


FACTORIES: dict[StepKind, Callable[..., StepOutput]] = {
    "download": download_output,
    "embed": embed_output,
    "generate": chunk_output,
    "mux": mux_output,
    "notify": notify_output,
}


def output_of(step_id: str, **changes: Any) -> StepOutput:
    """An output of the step's kind."""
    return FACTORIES[Step.parse(step_id).kind](**changes)


def committed(
    output: StepOutput,
    *,
    attempt_id: str = FIRST,
    timings: dict[str, int] | None = None,
    inputs: dict[str, str] | None = None,
    digests: dict[str, str] | None = None,
) -> Committed:
    return Committed(
        output=output,
        attempt_id=attempt_id,
        timings=timings or {},
        inputs=inputs or {},
        digests=digests or {},
    )
