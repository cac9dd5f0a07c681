"""What a request will take, before it is submitted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from farm.client.uploads import local
from farm.estimate import chunk_s
from farm.job import JobRequest
from farm.plan import FPS, Plan


@dataclass(frozen=True)
class Forecast:
    """Frames and chunks of the video, None while nobody has heard its sound; seconds of one H100."""

    frames: int | None
    chunks: int | None
    gpu_s: float | None


def forecast(request: JobRequest) -> Forecast:
    """What a job will take; a FarmError if it cannot become one, as far as can be told without fetching its URLs."""
    _look("cond_video", request.cond_video)
    seconds = _seconds(request)
    if seconds is None:
        return Forecast(None, None, None)
    longest = request.frame_num if request.mode == "clip" else request.max_frame_num
    frames = min(max(1, int(seconds * FPS)), longest)
    chunks = Plan(frames, request.frame_num, request.motion_frame).chunks
    return Forecast(frames, chunks, chunks * chunk_s(request))


def _seconds(request: JobRequest) -> float | None:
    """How long the voices last, None unless all of them are recordings that lie here."""
    if request.cond_audio is None:
        return None
    voices = request.cond_audio.model_dump(exclude_none=True)
    heard = [_look(f"cond_audio.{who}", voice) for who, voice in voices.items()]
    known = [seconds for seconds in heard if seconds is not None]
    if len(known) < len(heard):
        return None
    return sum(known) if request.audio_type == "add" else max(known)


def _look(field: str, source: str) -> float | None:
    """Refuses a source that cannot be used; says how long a recording lasts that lies here."""
    content = local(source, field)
    return _probed(field, content) if isinstance(content, Path) else None


@lru_cache(1024)
def _probed(field: str, file: Path) -> float | None:
    from farm.media.probe import expect_audio, expect_visual

    if field == "cond_video":
        expect_visual(file, field=field)
        return None
    return expect_audio(file, field=field).seconds
