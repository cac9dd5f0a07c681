"""Requests for a remote endpoint: files as data URIs, in Runpod's envelope."""

from __future__ import annotations

from base64 import b64encode
from mimetypes import guess_type
from pathlib import Path
from typing import Any

from farm.client.uploads import AnyRequest, LocalFiles, local_content
from farm.errors import InvalidInput

RUN_MB = 10
RUNSYNC_MB = 20
"""The largest bodies that Runpod's /run and /runsync accept, in millions of bytes."""


def embed_files(request: AnyRequest, local_files: LocalFiles = True) -> AnyRequest:
    """The request with local files as data URIs; InvalidInput for one that does not exist."""

    def as_data_uri(source: str, field: str) -> str:
        content = local_content(source, field, local_files)
        if not isinstance(content, Path):
            return source
        mime = guess_type(content.name)[0] or "application/octet-stream"
        return f"data:{mime};base64,{b64encode(content.read_bytes()).decode()}"

    return request.with_sources(as_data_uri)


def wrap_envelope(
    fields: dict[str, Any], *, execution_s: float | None = None, ttl_s: float | None = None
) -> dict[str, Any]:
    """Runpod's envelope: the request, and its limits for running, and for waiting and running."""
    if execution_s and ttl_s and ttl_s < execution_s:
        raise InvalidInput(
            f"ttl_s: got {ttl_s:g}; allowed: no less than execution_s, {execution_s:g}"
        )
    envelope: dict[str, Any] = {"input": fields}
    policy = {}
    if execution_s is not None:
        policy["executionTimeout"] = round(1000 * execution_s)  # milliseconds
    if ttl_s is not None:
        policy["ttl"] = round(1000 * ttl_s)
    if policy:
        envelope["policy"] = policy
    return envelope


def size_warning(text: str) -> str | None:
    """A warning if a payload is too large for /run; InvalidInput if /runsync refuses it too."""
    megabytes = len(text.encode()) / 1e6
    if megabytes <= RUN_MB:
        return None
    limits = (
        f"Runpod's /run accepts {RUN_MB} MB and /runsync {RUNSYNC_MB} MB; "
        "name files by URL, or --upload them"
    )
    if megabytes > RUNSYNC_MB:
        raise InvalidInput(f"request: its size is {megabytes:.1f} MB; {limits}")
    return f"its size is {megabytes:.1f} MB; {limits}"
