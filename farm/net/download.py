"""Bytes from outside: over HTTP, past a guard that keeps private networks private, or carried in the request itself."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, unquote_to_bytes, urljoin

import httpcore

from farm.errors import DownloadFailed, InvalidInput
from farm.net.guard import (
    TIMEOUTS,
    GuardedBackend,
    Network,
    RequestFailed,
    Resolve,
    as_request_failed,
    header,
    redact_url,
    request_target,
    resolve_host,
)

MAX_REDIRECTS = 3

_REDIRECTS = {301, 302, 303, 307, 308}


def download_file(
    url: str,
    path: Path,
    *,
    field: str,
    max_bytes: int,
    timeout_s: float,
    allow: Sequence[Network] = (),
    resolve: Resolve | None = None,
) -> None:
    """The body that `url` answers with, at `path`; after an error there is no file.

    Only http and https, at most 3 redirects, and only to public addresses or those in `allow`: the address that was
    checked is the one connected to, so a name cannot change its mind in between. Proxies of the environment are not
    used. `timeout_s` bounds the whole of it, `max_bytes` the body.

    Raises DownloadFailed, which names `field` and the address without its query and password. It is retryable after a
    timeout, a failed connection, 429 and 5xx.
    """
    backend = GuardedBackend(allow=allow, resolve=resolve or resolve_host, deadline=time.monotonic() + timeout_s)
    try:
        with httpcore.ConnectionPool(network_backend=backend) as pool, path.open("wb") as file:
            _follow(pool, url, file, max_bytes)
    except BaseException as error:
        path.unlink(missing_ok=True)
        failure = as_request_failed(error, timeout_s)
        if failure is None:
            raise
        message = f"{field}: {redact_url(url)}: {failure}"
        raise DownloadFailed(message, retryable=failure.retryable) from (None if error is failure else error)


def decode_inline(text: str, *, field: str, max_bytes: int) -> bytes:
    """The bytes that a data URI or plain base64 carries; InvalidInput if `text` is neither, or carries too many."""
    head, comma, body = text.partition(",") if text[:5].lower() == "data:" else ("", "", text)
    if head and not comma:
        raise InvalidInput(f"{field}: a data URI needs a comma before its data, got {text[:40]!r}")
    is_base64 = not head or head.lower().endswith(";base64")
    content = _from_base64(unquote(body), field) if is_base64 else unquote_to_bytes(body)
    if len(content) > max_bytes:
        raise InvalidInput(f"{field}: carries {len(content):,} bytes; allowed: {max_bytes:,}")
    return content


def _follow(pool: httpcore.ConnectionPool, url: str, file: BinaryIO, max_bytes: int) -> None:
    """The body behind `url` and its redirects, each of which passes the guard like the first."""
    for _ in range(MAX_REDIRECTS + 1):
        target, headers = request_target(url)
        with pool.stream("GET", target, headers=headers, extensions={"timeout": TIMEOUTS}) as response:
            if response.status not in _REDIRECTS:
                return _save(response, file, max_bytes)
            url = urljoin(url, header(response, b"location"))
    raise RequestFailed(f"more than {MAX_REDIRECTS} redirects, the last of them to {redact_url(url)}")


def _save(response: httpcore.Response, file: BinaryIO, max_bytes: int) -> None:
    if response.status != 200:
        raise RequestFailed(f"answered {response.status}", retryable=response.status == 429 or response.status >= 500)
    encoding = header(response, b"content-encoding") or "identity"
    if encoding != "identity":
        raise RequestFailed(f"answered with Content-Encoding {encoding!r}; wanted the plain file")
    announced = header(response, b"content-length")
    if announced.isdigit() and int(announced) > max_bytes:
        raise RequestFailed(f"holds {int(announced):,} bytes; allowed: {max_bytes:,}")
    size = 0
    for part in response.iter_stream():
        size += len(part)
        if size > max_bytes:
            raise RequestFailed(f"holds more than the allowed {max_bytes:,} bytes")
        file.write(part)


def _from_base64(text: str, field: str) -> bytes:
    compact = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except binascii.Error as error:
        raise InvalidInput(f"{field}: wanted a data URI or base64, got {text[:40]!r} ({error})") from error
