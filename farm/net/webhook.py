"""A text handed to a receiver over HTTPS, past the guard that keeps private networks private."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpcore

from farm.net.guard import (
    TIMEOUTS,
    GuardedBackend,
    Network,
    RequestFailed,
    Resolve,
    as_request_failed,
    request_target,
    resolve_host,
)

SCHEME = "https://"


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    timeout_s: float,
    allow: Sequence[Network] = (),
    ca_file: Path | None = None,
    resolve: Resolve | None = None,
) -> int:
    """The status that the receiver answers with; a redirect is an answer like any other and is not followed.

    Only https, and only to public addresses or those in `allow`: the address that was checked is the one connected to.
    `timeout_s` bounds the whole of it. Nothing of the answer's body is read, so it may be as long as it likes.
    `authority` is a PEM file of who vouches for the receiver; None = the usual authorities. Raises Failure.
    """
    if not url.lower().startswith(SCHEME):
        raise RequestFailed("only https addresses are called")
    backend = GuardedBackend(allow=allow, resolve=resolve or resolve_host, deadline=time.monotonic() + timeout_s)
    context = _trusting(ca_file) if ca_file else None
    target, usual = request_target(url)
    try:
        with (
            httpcore.ConnectionPool(network_backend=backend, ssl_context=context) as pool,
            pool.stream(
                "POST",
                target,
                headers=[*usual.items(), *headers.items()],
                content=body,
                extensions={"timeout": TIMEOUTS},
            ) as response,
        ):
            return response.status
    except Exception as error:
        failure = as_request_failed(error, timeout_s)
        if failure is None or failure is error:
            raise
        raise failure from error


def _trusting(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise RequestFailed(f"{ca_file} holds no certificates ({error})") from error
