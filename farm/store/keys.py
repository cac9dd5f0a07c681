"""The layout of keys in the store.

farm.json                                     the id of the farm, which its broker has too
uploads/{sha256}                              files that callers uploaded
shared/{kind}/{sha256}                        text features, by the hash of input and encoder *
shared/{kind}/{sha256}/{piece}                speech embeddings, the same, in pieces of 10 s *
runpod/{sha256}.json                          the job of a request to a serverless worker *
jobs/{job_id}/request.json                    the accepted request and its time, written first *
jobs/{job_id}/end.json                        the job's last status, once it has ended *
jobs/{job_id}/playlist.m3u8                   the HLS playlist, rewritten with each chunk
jobs/{job_id}/{step_id}/{attempt_id}/{name}   objects of an attempt; the registry knows which counts
jobs/{job_id}/{step_id}/{attempt_id}/output.json
                                              its output, written last, with timings and inputs *
jobs/{job_id}/{step_id}/{attempt_id}/begun    left by attempts that killed their serverless worker

* sealed: the first line is the SHA-256 of the rest (farm.store.integrity). The others are compared
with the SHA-256 in the output of their step, uploads with their own key. A playlist is never read.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from farm.route import STEP_SPECS

FARM = "farm.json"
JOBS = "jobs/"
OUTPUT = "output.json"
THUMBNAIL = "thumbnail.jpg"
STEP_ID = "|".join(
    rf"{kind}-(?:\d{{4}}|[1-9]\d{{4,}})" if spec.per_chunk else kind
    for kind, spec in STEP_SPECS.items()
)
ATTEMPT = re.compile(rf"jobs/[^/]+/({STEP_ID})/(\d{{4,}}-[0-9a-f]+)/[^/]+")
UPLOADS = "uploads/"
SHARED = "shared/"
UPLOAD = re.compile(UPLOADS + "[0-9a-f]{64}")
SCHEME = "store://"


def upload(source: Path | bytes) -> str:
    """The key of a caller's file; the same bytes are stored once."""
    return UPLOADS + digest(source)


def shared(kind: str, *parts: str | bytes | memoryview) -> str:
    """The key of an object that depends only on `parts`, so that jobs and machines share it."""
    hashed = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hashed.update(len(data).to_bytes(8, "big"))
        hashed.update(data)
    return f"{SHARED}{kind}/{hashed.hexdigest()}"


def piece(folder: str, number: int) -> str:
    """The key of one piece of a shared object."""
    return f"{folder}/{number:05d}"


def owner(request_digest: str) -> str:
    return f"runpod/{request_digest}.json"


def job(job_id: str) -> str:
    """The prefix of all keys of a job."""
    return f"{JOBS}{job_id}/"


def request(job_id: str) -> str:
    return job(job_id) + "request.json"


def end(job_id: str) -> str:
    return job(job_id) + "end.json"


def playlist(job_id: str) -> str:
    return job(job_id) + "playlist.m3u8"


def attempt(job_id: str, step_id: str, attempt_id: str, name: str) -> str:
    return f"{job(job_id)}{step_id}/{attempt_id}/{name}"


class AttemptKey(NamedTuple):
    """One attempt at a step."""

    step_id: str
    attempt_id: str


def attempt_of(key: str) -> AttemptKey | None:
    """The attempt that wrote a key; None for a key of the job itself."""
    found = ATTEMPT.fullmatch(key)
    if found is None:
        return None
    return AttemptKey(found[1], found[2])


def digest(source: Path | bytes) -> str:
    """SHA-256 of bytes or of a file, in hexadecimal."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
