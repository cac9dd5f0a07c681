"""Requests of jobs whose media nobody fetches."""

from __future__ import annotations

from typing import Any

from farm.job import JobRequest

FIELDS: dict[str, Any] = {
    "prompt": "a woman talks",
    "cond_video": "https://example.org/face.png",
    "cond_audio": {"person1": "https://example.org/voice.wav"},
}


def job_request(**changes: Any) -> JobRequest:
    return JobRequest.parse({**FIELDS, **changes})


REQUEST = job_request()
