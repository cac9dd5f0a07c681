"""The body of a request: bounded in bytes and time, and JSON in the strict sense."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from starlette.requests import ClientDisconnect, Request

from farm.gateway.refusal import CLOSE, refuse
from farm.validation import json_type, why_no_json

MAX_SEPARATORS = 200_000
"""Commas and brackets of a body, which bound what parsing it takes; the longest text to speak has
100,000 characters.
"""

DRAINED_BYTES = 20_000_000
"""Of a body that is refused, because a client that is still sending misses the answer."""

MAX_DIGITS = 4300
"""Of an integer: Python reads no longer ones, because that takes the square of their length."""


@dataclass(frozen=True)
class Limits:
    """What one request may have."""

    run_bytes: int = 10 * 2**20
    runsync_bytes: int = 20 * 2**20
    """Bodies of /run and /runsync, as Runpod has them."""
    header_s: float = 10.0
    """Seconds from the beginning of a request to the end of its headers."""
    silent_s: float = 10.0
    """Seconds between two pieces of a body."""
    body_s: float = 120.0
    """Seconds for a whole body."""
    upload_s: float = 900.0
    """Seconds for one with files."""
    write_s: float = 30.0
    """Seconds in which a client reads on, when it has not read what it was sent."""


async def read_body(request: Request, max_bytes: int, limits: Limits) -> bytes:
    """The whole body; raises Refusal for one that is too long or comes too slowly."""
    body = bytearray()
    size = 0
    async for piece in pieces(request, limits.body_s, limits.silent_s):
        size += len(piece)
        if size <= max_bytes:
            body += piece
        elif size > max_bytes + DRAINED_BYTES:
            break
    if size > max_bytes:
        raise refuse(413, f"body: allowed: {max_bytes:,} bytes; name long files by URL", CLOSE)
    return bytes(body)


async def pieces(request: Request, body_s: float, silent_s: float) -> AsyncIterator[bytes]:
    """The pieces of a body; raises Refusal if they come too slowly, or the last one is missing."""
    _check_encoding(request)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + body_s
    stream = aiter(request.stream())
    try:
        while True:
            async with asyncio.timeout_at(min(deadline, loop.time() + silent_s)):
                piece = await anext(stream, None)
            if piece is None:
                return
            yield piece
    except TimeoutError:
        allowed = f"{silent_s:g} s between two pieces, {body_s:g} s in all"
        raise refuse(408, f"body: it comes too slowly; allowed: {allowed}", CLOSE) from None
    except ClientDisconnect:
        raise refuse(400, "body: it ends too early", CLOSE) from None


def _check_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise refuse(
            415, f"Content-Encoding: got {encoding[:80]!r}; allowed: none, as JSON is", CLOSE
        )


def parse_object(body: bytes) -> dict[str, Any]:
    """The object in a body; raises Refusal for anything else.

    What parsers read differently is refused: names that occur twice, NaN, numbers out of range.
    """
    if not body.strip():
        raise refuse(400, "body: it is empty; allowed: a JSON object")
    try:
        if sum(body.count(each) for each in (b",", b"[", b"{")) > MAX_SEPARATORS:
            raise ValueError(f"more than {MAX_SEPARATORS:,} commas and brackets")
        found = json.loads(
            body.decode("utf-8-sig"),  # PowerShell begins with a mark
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_integer,
        )
    except (ValueError, RecursionError) as error:
        raise refuse(400, f"body: it is not JSON ({why_no_json(error)})") from None
    if not isinstance(found, dict):
        raise refuse(400, f"body: got {json_type(found)}; allowed: a JSON object")
    return found


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice in an object")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError("a number is out of range")
    return number


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS} digits")
    return int(text)
