"""The key layout, in one place.

uploads/{sha256}                              what callers handed in
shared/{kind}/{sha256}                        embeddings and text features, by the hash of input and encoder
jobs/{job_id}/request.json                    the request as accepted, written before anything else
jobs/{job_id}/playlist.m3u8                   what can be watched of it so far; written anew with each chunk
jobs/{job_id}/{product}/{attempt}/{name}      what one attempt at a step made; the registry says which attempt counts
"""

from __future__ import annotations

import hashlib
from pathlib import Path

UPLOADS = "uploads/"
SCHEME = "store://"


def upload(source: Path | bytes) -> str:
    """The key of a caller's file: the same bytes are stored once."""
    return UPLOADS + digest(source)


def shared(kind: str, *parts: str | bytes) -> str:
    """The key of something that only depends on `parts`, so that jobs and machines share it."""
    hashed = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hashed.update(len(data).to_bytes(8, "big") + data)
    return f"shared/{kind}/{hashed.hexdigest()}"


def request(job_id: str) -> str:
    return f"jobs/{job_id}/request.json"


def playlist(job_id: str) -> str:
    return f"jobs/{job_id}/playlist.m3u8"


def attempt(job_id: str, product: str, fence: int, name: str) -> str:
    return f"jobs/{job_id}/{product}/{fence:04d}/{name}"


def digest(source: Path | bytes) -> str:
    """SHA-256 of bytes or of a file, in hexadecimal."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
