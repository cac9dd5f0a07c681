"""What a request will take, before it is submitted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from farm.client.uploads import local_content
from farm.estimate import chunk_s
from farm.job import JobRequest
from farm.plan import FPS, Plan


@dataclass(frozen=True)
class Estimate:
    """All None as long as the length of the audio is unknown."""

    frames: int | None = None
    chunks: int | None = None
    gpu_s: float | None = None
    """Seconds of one H100."""


def estimate(request: JobRequest) -> Estimate:
    """The frames, chunks and GPU seconds of a job.

    Raises a FarmError if the request is invalid, as far as that is known without downloading.
    """
    _check_source("cond_video", request.cond_video)
    seconds = _audio_seconds(request)
    if seconds is None:
        return Estimate()
    frames = min(max(1, int(seconds * FPS)), request.max_frames)
    chunks = Plan(frames, request.frame_num, request.motion_frame).chunks
    return Estimate(frames, chunks, chunks * chunk_s(request))


def _audio_seconds(request: JobRequest) -> float | None:
    """The length of the audio; None unless all of it is in local recordings."""
    if request.cond_audio is None:
        return None
    recordings = request.cond_audio.model_dump(exclude_none=True)
    seconds = [
        _check_source(f"cond_audio.{person}", source) for person, source in recordings.items()
    ]
    known = [each for each in seconds if each is not None]
    if len(known) < len(seconds):
        return None
    return sum(known) if request.audio_type == "add" else max(known)


def _check_source(field: str, source: str) -> float | None:
    """The length of a local recording; raises InvalidInput for a source that cannot be used."""
    content = local_content(source, field)
    return _probed_seconds(field, content) if isinstance(content, Path) else None


@lru_cache(1024)
def _probed_seconds(field: str, file: Path) -> float | None:
    from farm.media.probe import expect_audio, expect_visual

    if field == "cond_video":
        expect_visual(file, field=field)
        return None
    return expect_audio(file, field=field).seconds
