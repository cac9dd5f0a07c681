"""Bytes that a request contains itself: a data URI or plain base64."""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote, unquote_to_bytes

from farm.errors import InvalidInput, shorten

HEAD_CHARACTERS = 100
"""Of which a data URI is known, invisible ones among them."""

_BASE64_HEADER = re.compile(r"data:[^,;]*(?:;[^;]*+)*?;\s*base64\s*,", re.IGNORECASE)
"""As WHATWG's Fetch reads it, and with commas in parameters, which MediaRecorder writes.

`data:video/webm;codecs=vp8,opus;base64,`
"""

_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200c\u200d\u2060"))
"""The byte order mark and zero-width characters, which come with copied text."""


def is_data_uri(text: str) -> bool:
    """Whether a text claims to be a data URI, whatever invisible characters precede it."""
    return _without_invisible(text[:HEAD_CHARACTERS]).lstrip()[:5].lower() == "data:"


def decode_inline(text: str, *, field: str, max_bytes: int, files: bool = True) -> bytes:
    """The bytes in a data URI, or in plain base64 if there is no file of that name.

    Raises InvalidInput if `text` is neither, or has too many bytes; see `unusable_source`.
    """
    is_plain = not is_data_uri(text)
    try:
        content = _decode_base64(text) if is_plain else _decode_data_uri(text)
    except ValueError as error:
        reason = f"there is no such file, and {error}" if is_plain and files else str(error)
        raise unusable_source(text, field, reason, files=files) from error
    if len(content) > max_bytes:
        raise InvalidInput(f"{field}: got {len(content):,} bytes; allowed: {max_bytes:,}")
    return content


def unusable_source(text: str, field: str, reason: str, *, files: bool = True) -> InvalidInput:
    """The error for a source that is none of the allowed forms; a long one is not shown whole.

    `files`: whether files may be named.
    """
    allowed = f"{'a file, ' if files else ''}an http(s) URL, a data URI, base64"
    return InvalidInput(f"{field}: got {shorten(repr(text))}; {reason}; allowed: {allowed}")


def _decode_data_uri(text: str) -> bytes:
    text = _without_invisible(text).strip().partition("#")[0]  # without the URL's fragment
    base64_header = _BASE64_HEADER.match(text)
    if base64_header:
        return _decode_base64(text[base64_header.end() :])
    _, comma, body = text.partition(",")
    if not comma:
        raise ValueError("a data URI needs a comma before its data")
    return unquote_to_bytes(body)


def _decode_base64(text: str) -> bytes:
    """The bytes in base64, also in its URL-safe alphabet, with line breaks or without padding.

    Raises ValueError for anything else.
    """
    text = _without_invisible(unquote(text)).strip()
    compact = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    foreign = re.search(r"[^A-Za-z0-9+/]", compact)
    if foreign:
        raise ValueError(f"base64 has no {foreign[0]!r}")
    if _has_lost_plus(text):
        raise ValueError("base64 has no blanks: in a form, each + is written %2B")
    return base64.b64decode(compact + "=" * (-len(compact) % 4))


def _has_lost_plus(text: str) -> bool:
    """Whether base64 has blanks that do not come from breaking it into equal lines.

    Who decodes a form replaces every + by a blank.
    """
    if " " not in text or not re.search(r"\S +\S", text):
        return False
    *lines, last = text.split(" ")
    lengths = {len(line) for line in lines}
    return len(lengths) > 1 or len(lines[0]) % 4 > 0 or len(last) > len(lines[0])


def _without_invisible(text: str) -> str:
    return text if text.isascii() else text.translate(_INVISIBLE)
