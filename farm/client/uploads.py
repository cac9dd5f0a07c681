"""Sources that the caller holds: a path, a data URI or base64."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from farm.job.files import find_file
from farm.net.data_uri import decode_inline, is_data_uri, unusable_source
from farm.store import keys

MIN_BASE64 = 200
"""Characters. A shorter text that names no file is a misspelt path, not media."""

MAX_BYTES = 2**31


def local_content(source: str, field: str) -> Path | bytes | None:
    """The file or the bytes of a source; None for a URL.

    Raises InvalidInput for anything else.
    """
    if source.lower().startswith(("http://", "https://", keys.SCHEME)):
        return None
    if is_data_uri(source):
        return decode_inline(source, field=field, max_bytes=MAX_BYTES)
    path = find_file(os.path.expanduser(source))
    if path:
        return path
    if len(source) < MIN_BASE64:
        raise unusable_source(source, field, "there is no such file")
    content = decode_inline(source, field=field, max_bytes=MAX_BYTES)
    if can_probe() and not _may_be_media(content):
        # A long path may happen to consist of base64's characters.
        reason = "there is no such file, and as base64 it is no image, video or audio"
        raise unusable_source(source, field, reason)
    return content


def can_probe() -> bool:
    """Whether media can be read here; a client may be installed without the worker's libraries."""
    return find_spec("av") is not None


def _may_be_media(content: bytes) -> bool:
    from farm.media.probe import HEAD_BYTES, claims_media

    return claims_media(content[:HEAD_BYTES])
