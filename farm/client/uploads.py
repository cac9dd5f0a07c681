"""Sources that the caller holds: a path, a data URI or base64."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from stat import S_ISFIFO
from typing import Any, TypeVar

from farm.engine.context import Context
from farm.engine.retention import is_fresh
from farm.errors import InvalidInput
from farm.job import JobRequest
from farm.job.files import change_sources, find_file
from farm.net.data_uri import decode_inline, is_data_uri, unusable_source
from farm.store import keys

MIN_BASE64 = 200
"""Characters. A shorter text that names no file is a misspelt path, not media."""

MAX_BYTES = 2**31

_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]|\\\\")


AnyRequest = TypeVar("AnyRequest", bound=JobRequest)


def plain_sources(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request with paths as text, and with content in place of bytes and files."""
    return change_sources(fields, _plain_source)


def _plain_source(source: Any, field: str) -> Any:
    if isinstance(source, os.PathLike):
        return os.fspath(source)
    content = source.read() if hasattr(source, "read") else source
    if isinstance(content, bytes | bytearray):
        return f"data:;base64,{b64encode(content).decode()}"
    if content is not source:
        raise InvalidInput(f"{field}: got a file in text mode; allowed: one that is open as 'rb'")
    return source


def read_pipes(request: AnyRequest) -> AnyRequest:
    """The request with the content of named pipes, such as `<(command)`, as data URIs.

    A pipe can be read once only, and a request's sources are checked before they are uploaded.
    """
    return request.with_sources(_read_pipe)


def is_pipe(source: str) -> bool:
    try:
        return S_ISFIFO(os.stat(source).st_mode)
    except (OSError, ValueError):  # no path at all; a zero byte
        return False


def _read_pipe(source: str, _: str) -> str:
    if not is_pipe(source):
        return source
    return f"data:;base64,{b64encode(Path(source).read_bytes()).decode()}"


LocalFiles = bool | Path
"""Which paths a request may name: any, none, or those of files in a folder."""


def local_content(source: str, field: str, local_files: LocalFiles = True) -> Path | bytes | None:
    """The file or the bytes of a source; None for a URL.

    Raises InvalidInput for anything else, and for a path that may not be read.
    """
    if is_url(source) or source.lower().startswith(keys.SCHEME):
        return None
    files = local_files is not False
    if is_data_uri(source):
        return decode_inline(source, field=field, max_bytes=MAX_BYTES, files=files)
    may_read = _may_read(source, local_files)
    # A folder's own ~ is a name like any other.
    name = os.path.expanduser(source) if local_files is True else source
    path = find_file(name) if may_read else None
    if path:
        return path
    if len(source) < MIN_BASE64:
        raise unusable_source(source, field, _why_no_file(name, may_read=may_read), files=files)
    content = decode_inline(source, field=field, max_bytes=MAX_BYTES, files=files)
    if can_probe() and not _may_be_media(content):
        # A long path may happen to consist of base64's characters.
        missing = "there is no such file, and " if files else ""
        reason = f"{missing}as base64 it is no image, video or audio"
        raise unusable_source(source, field, reason, files=files)
    return content


def _why_no_file(name: str, *, may_read: bool) -> str:
    if not may_read:
        return "files of this machine may not be named here"
    if os.path.isdir(name):
        return "it is a folder"
    if _WINDOWS_PATH.match(name):
        return "it is a path of Windows, which this system does not have"
    return "there is no such file"


Contents = dict[str, Path | bytes]
"""What is to be uploaded, by key."""


def as_stored(request: AnyRequest, local_files: LocalFiles = True) -> tuple[AnyRequest, Contents]:
    """The request with local sources as their URLs in the store, and what is to be stored."""
    contents: Contents = {}

    def url(source: str, field: str) -> str:
        content = local_content(source, field, local_files)
        if content is None:
            return source
        try:
            key = keys.upload(content)
        except OSError as error:
            raise InvalidInput(
                f"{field}: got {source!r}; it cannot be read ({error.strerror})"
            ) from error
        contents[key] = content
        return keys.SCHEME + key

    return request.with_sources(url), contents


def store_contents(ctx: Context, contents: Contents) -> None:
    """Uploads what the store does not have yet."""
    for key, content in contents.items():
        if not is_fresh(ctx, key):
            ctx.store.put(key, content)


def content_size(content: Path | bytes) -> int:
    """Of what is to be uploaded, in bytes."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def is_url(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def _may_read(source: str, local_files: LocalFiles) -> bool:
    if isinstance(local_files, bool):
        return local_files
    try:
        return Path(source).resolve().is_relative_to(local_files.resolve())
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, a link to itself
        return False


def can_probe() -> bool:
    """Whether media can be read here; a client may be installed without the worker's libraries."""
    return find_spec("av") is not None


def _may_be_media(content: bytes) -> bool:
    from farm.media.image import HEAD_BYTES
    from farm.media.probe import claims_media

    return claims_media(content[:HEAD_BYTES])
