"""Webhook calls over HTTPS, with private networks protected by the guard."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpcore

from farm.net.guard import (
    ANY_PORT,
    TIMEOUTS,
    GuardedBackend,
    Limits,
    RequestFailed,
    Resolve,
    as_request_failed,
    request_target,
    resolve_host,
)
from farm.net.public import IPNetwork

SCHEME = "https://"


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    timeout_s: float,
    allow: Sequence[IPNetwork] = (),
    ports: Sequence[range] = ANY_PORT,
    ca_file: Path | None = None,
    resolve: Resolve | None = None,
) -> int:
    """Posts a body and returns the status of the response; redirects are not followed.

    Only to https URLs at public addresses, or those in `allow`: the address that was checked is the
    one connected to. `timeout_s` bounds the whole call, DNS included. The body of the response is
    not read, so its length does not matter. `ca_file` is a PEM file of certificate authorities to
    trust; None = the usual ones. Raises RequestFailed.
    """
    if not url.lower().startswith(SCHEME):
        raise RequestFailed("only https addresses are called")
    context = _trust(ca_file) if ca_file else None
    target, default_headers = request_target(url)
    limits = Limits(deadline=time.monotonic() + timeout_s)
    backend = GuardedBackend(
        allow=allow, ports=ports, resolve=resolve or resolve_host, limits=limits
    )
    try:
        with (
            httpcore.ConnectionPool(network_backend=backend, ssl_context=context) as pool,
            pool.stream(
                "POST",
                target,
                headers=[*default_headers.items(), *headers.items()],
                content=body,
                extensions={"timeout": TIMEOUTS},
            ) as response,
        ):
            return response.status
    except Exception as error:
        failure = as_request_failed(error, url, timeout_s)
        if failure is None or failure is error:
            raise
        raise failure from error


def _trust(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise RequestFailed(f"{ca_file} has no certificates ({error})") from error
