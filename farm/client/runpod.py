"""A request ready for a farm that cannot see our files: what they hold goes along, and Runpod's envelope around it."""

from __future__ import annotations

from base64 import b64encode
from mimetypes import guess_type
from pathlib import Path
from typing import Any

from farm.client.uploads import local
from farm.errors import InvalidInput
from farm.job import JobRequest

RUN_MB, RUNSYNC_MB = 10, 20
"""What Runpod's /run and /runsync take at most, in millions of bytes."""


def carried(request: JobRequest) -> JobRequest:
    """The request with each file that lies here as a data URI; InvalidInput for one that is not there."""
    return request.with_sources(_carried)


def enveloped(fields: dict[str, Any], *, execution_s: int | None = None, ttl_s: int | None = None) -> dict[str, Any]:
    """Runpod's envelope around a request: how long it may run, and how long it may wait and run in all."""
    if execution_s and ttl_s and ttl_s < execution_s:
        raise InvalidInput(f"ttl_s: got {ttl_s}; allowed: no less than execution_s, {execution_s}")
    # Runpod counts milliseconds.
    limits = {"executionTimeout": execution_s, "ttl": ttl_s}
    policy = {name: seconds * 1000 for name, seconds in limits.items() if seconds is not None}
    return {"input": fields, "policy": policy} if policy else {"input": fields}


def weighed(text: str) -> str | None:
    """A word on a payload that Runpod's /run does not take, None for a light one; InvalidInput if no door takes it."""
    megabytes = len(text.encode()) / 1e6
    if megabytes <= RUN_MB:
        return None
    limits = f"Runpod's /run takes {RUN_MB} MB and /runsync {RUNSYNC_MB} MB; name files by URL, or --upload them"
    if megabytes > RUNSYNC_MB:
        raise InvalidInput(f"request: it has {megabytes:.1f} MB; {limits}")
    return f"it has {megabytes:.1f} MB; {limits}"


def _carried(source: str, field: str) -> str:
    content = local(source, field)
    if not isinstance(content, Path):
        return source
    mime = guess_type(content.name)[0] or "application/octet-stream"
    return f"data:{mime};base64,{b64encode(content.read_bytes()).decode()}"
