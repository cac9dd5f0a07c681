"""Where the media of a job come from: those that were not uploaded, and their hosts."""

from __future__ import annotations

from urllib.parse import urlsplit

from farm.job import JobRequest
from farm.store import keys


def source_urls(request: JobRequest) -> dict[str, str]:
    """The URL of every image, video and recording that was not uploaded, by its field."""
    voices = request.cond_audio
    recordings = voices.model_dump(exclude_none=True) if voices else {}
    sources = {f"cond_audio.{person}": source for person, source in recordings.items()}
    sources["cond_video"] = request.cond_video
    return {
        field: source for field, source in sources.items() if not source.startswith(keys.SCHEME)
    }


def source_hosts(request: JobRequest) -> set[str]:
    """The hosts of these URLs."""
    return {str(urlsplit(url).hostname).rstrip(".") for url in source_urls(request).values()}
