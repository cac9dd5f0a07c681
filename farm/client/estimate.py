"""What a request will take, before it is submitted."""

from __future__ import annotations

from dataclasses import dataclass

from farm.client.checks import check_media
from farm.client.models import accept
from farm.estimate import chunk_s
from farm.job import JobRequest, ResolvedRequest
from farm.plan import FPS
from farm.settings import Settings
from farm.steps.allowed import check_allowed


@dataclass(frozen=True)
class Estimate:
    """All None as long as the length of the audio is unknown."""

    frames: int | None = None
    chunks: int | None = None
    gpu_s: float | None = None
    """Seconds of one H100."""


def estimate(given: JobRequest, settings: Settings) -> Estimate:
    """The frames, chunks and GPU seconds of a job, after all checks of its submission.

    Raises InvalidInput for what a farm with these settings refuses, as far as that is known
    without downloading.
    """
    request = accept(given, settings.presets, settings)
    check_allowed(request, settings)
    buckets = request.preset.buckets(request.size)
    seconds = audio_seconds(request, check_media(request, settings, buckets=buckets))
    if seconds is None:
        return Estimate()
    frames = min(max(1, int(seconds * FPS)), request.max_frames)
    chunks = request.plan(frames).chunks
    return Estimate(frames, chunks, chunks * chunk_s(request))


def audio_seconds(request: ResolvedRequest, recordings: list[float | None]) -> float | None:
    """The length of the audio; None unless all of it is in recordings of known length."""
    known = [seconds for seconds in recordings if seconds is not None]
    if not known or len(known) < len(recordings):
        return None
    return sum(known) if request.audio_type == "add" else max(known)
