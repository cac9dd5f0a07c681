"""Downloads over HTTP, with private networks protected by the guard."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin

import httpcore

from farm.errors import DownloadFailed
from farm.net.guard import (
    ANY_PORT,
    SPEED_WINDOW_S,
    TIMEOUTS,
    GuardedBackend,
    Limits,
    RequestFailed,
    Resolve,
    as_request_failed,
    begin_body,
    header,
    never_stopped,
    redact_url,
    request_target,
    resolve_host,
)
from farm.net.public import IPNetwork

MAX_REDIRECTS = 3

_REDIRECT_STATUSES = {301, 302, 303, 307, 308}

_SUCCESS_STATUSES = {200, 203}
"""With 203 a proxy says that it has changed the response."""

_COMPRESSIONS = {"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"}
"""Other names in Content-Encoding, such as aws-chunked or UTF-8, say nothing about the bytes."""


def download_file(
    url: str,
    path: Path,
    *,
    field: str,
    max_bytes: int,
    timeout_s: float,
    min_bytes_per_s: float = 0.0,
    speed_window_s: float = SPEED_WINDOW_S,
    raise_if_stopped: Callable[[], None] = never_stopped,
    allow: Sequence[IPNetwork] = (),
    ports: Sequence[range] = ANY_PORT,
    resolve: Resolve | None = None,
) -> None:
    """Downloads `url` to `path`; after an error there is no file.

    Only from http and https URLs, with at most 3 redirects, at `ports` of public addresses that
    are not this machine's, or of those in `allow`: the address that was checked is the one
    connected to, so DNS rebinding has no effect. Proxies of the environment are ignored.

    `timeout_s` bounds the whole download, DNS included, and `max_bytes` the body. A server that
    sends less than `min_bytes_per_s`, averaged over `speed_window_s` seconds, is given up. What
    `raise_if_stopped` raises ends the download; it is called at least once a second, also while
    the server is silent.

    Raises DownloadFailed, which names `field` and the URL without query and credentials. It is
    retryable after a timeout, a failed connection, 429 and 5xx.
    """
    limits = Limits(
        deadline=time.monotonic() + timeout_s,
        min_bytes_per_s=min_bytes_per_s,
        speed_window_s=speed_window_s,
        raise_if_stopped=raise_if_stopped,
    )
    backend = GuardedBackend(
        allow=allow, ports=ports, resolve=resolve or resolve_host, limits=limits
    )
    try:
        with httpcore.ConnectionPool(network_backend=backend) as pool, path.open("wb") as file:
            _follow(pool, url, file, max_bytes)
    except BaseException as error:
        path.unlink(missing_ok=True)
        failure = as_request_failed(error, url, timeout_s)
        if failure is None:
            raise
        message = f"{field}: {redact_url(url)}: {failure}"
        # Without the cause, which would say more about the network than the message does.
        raise DownloadFailed(message, retryable=failure.retryable) from None


def _follow(pool: httpcore.ConnectionPool, url: str, file: BinaryIO, max_bytes: int) -> None:
    """Saves the body of `url`; each redirect is checked by the guard like the first request."""
    for _ in range(MAX_REDIRECTS + 1):
        target, headers = request_target(url)
        with pool.stream(
            "GET", target, headers=headers, extensions={"timeout": TIMEOUTS}
        ) as response:
            if response.status not in _REDIRECT_STATUSES:
                begin_body(response)
                return _save(response, file, max_bytes)
            location = header(response, b"location")
            if not location:
                raise RequestFailed(f"HTTP {response.status} without a Location header")
            url = urljoin(url, location)
    raise RequestFailed(f"more than {MAX_REDIRECTS} redirects, the last to {redact_url(url)}")


def _save(response: httpcore.Response, file: BinaryIO, max_bytes: int) -> None:
    if response.status not in _SUCCESS_STATUSES:
        is_temporary = response.status == 429 or response.status >= 500
        raise RequestFailed(f"HTTP {response.status}", retryable=is_temporary)
    encoding = header(response, b"content-encoding")
    if _COMPRESSIONS & {name.strip() for name in encoding.lower().split(",")}:
        raise RequestFailed(f"answered with Content-Encoding {encoding!r}; allowed: identity")
    length = header(response, b"content-length")
    if length.isdigit() and int(length) > max_bytes:
        raise RequestFailed(f"it has {int(length):,} bytes; allowed: {max_bytes:,}")
    size = 0
    try:
        for part in response.iter_stream():
            size += len(part)
            if size > max_bytes:
                raise RequestFailed(f"it has more than the allowed {max_bytes:,} bytes")
            file.write(part)
    except (httpcore.NetworkError, httpcore.RemoteProtocolError) as error:
        reason = f"the connection broke off after {size:,} bytes"
        raise RequestFailed(reason, retryable=True) from error
