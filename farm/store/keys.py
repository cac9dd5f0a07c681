"""The key layout, in one place.

uploads/{sha256}                              what callers handed in
shared/{kind}/{sha256}                        text features, by the hash of input and encoder
shared/{kind}/{sha256}/{piece}                embeddings of speech, by the same hash, ten seconds each
jobs/{job_id}/request.json                    the request as accepted and when, written before anything else
jobs/{job_id}/end.json                        the job's last status, once it has ended
jobs/{job_id}/playlist.m3u8                   what can be watched of it so far; written anew with each chunk
jobs/{job_id}/{step_id}/{attempt}/{name}      what one attempt at a step stored; the registry says which attempt counts
jobs/{job_id}/{step_id}/{attempt}/output.json its output, written last, with its timings and inputs
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from farm.route import STEP_SPECS

JOBS = "jobs/"
OUTPUT = "output.json"
STEP_ID = "|".join(
    rf"{kind}-\d{{4,}}" if spec.per_chunk else kind for kind, spec in STEP_SPECS.items()
)
ATTEMPT = re.compile(rf"jobs/[^/]+/({STEP_ID})/(\d{{4,}})/[^/]+")
UPLOADS = "uploads/"
SCHEME = "store://"


def upload(source: Path | bytes) -> str:
    """The key of a caller's file: the same bytes are stored once."""
    return UPLOADS + digest(source)


def shared(kind: str, *parts: str | bytes | memoryview) -> str:
    """The key of something that only depends on `parts`, so that jobs and machines share it."""
    hashed = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hashed.update(len(data).to_bytes(8, "big"))
        hashed.update(data)
    return f"shared/{kind}/{hashed.hexdigest()}"


def piece(folder: str, number: int) -> str:
    """The key of a part of something that is shared."""
    return f"{folder}/{number:05d}"


def job(job_id: str) -> str:
    """What all keys of a job begin with."""
    return f"{JOBS}{job_id}/"


def request(job_id: str) -> str:
    return f"jobs/{job_id}/request.json"


def end(job_id: str) -> str:
    return f"jobs/{job_id}/end.json"


def playlist(job_id: str) -> str:
    return f"jobs/{job_id}/playlist.m3u8"


def attempt(job_id: str, step_id: str, fence: int, name: str) -> str:
    return f"jobs/{job_id}/{step_id}/{fence:04d}/{name}"


class AttemptKey(NamedTuple):
    """One attempt at a step, by its fencing token."""

    step_id: str
    number: int


def attempt_of(key: str) -> AttemptKey | None:
    """The attempt that wrote a key; None for a key of the job itself."""
    found = ATTEMPT.fullmatch(key)
    return AttemptKey(found[1], int(found[2])) if found else None


def digest(source: Path | bytes) -> str:
    """SHA-256 of bytes or of a file, in hexadecimal."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
