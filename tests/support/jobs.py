"""Requests of jobs whose media no step fetches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farm.job import JobRequest, ResolvedRequest, resolve
from farm.presets import MINIATURE, preset

FIELDS: dict[str, Any] = {
    "prompt": "a woman talks",
    "cond_video": "https://example.org/face.png",
    "cond_audio": {"person1": "https://example.org/voice.wav"},
}

TWO_CHUNKS: dict[str, Any] = {
    "mode": "streaming",
    "frame_num": 5,
    "motion_frame": 1,
    "max_frame_num": 8,
    "sample_steps": 1,
}
"""A video of eight frames, in two chunks of five, with one denoising step."""


def resolved(fields: Mapping[str, Any]) -> ResolvedRequest:
    """The request of these fields as a farm accepts it, for the miniature unless they say."""
    request = JobRequest.parse(fields)
    return resolve(request, preset(request.model or MINIATURE.name))


def job_request(**changes: Any) -> ResolvedRequest:
    return resolved({**FIELDS, **changes})


REQUEST = job_request()

TRIAL = f"the model miniature is good for {MINIATURE.good_for}"
"""What `farm submit` says of each job for the miniature."""
