"""Sources that the caller holds: a path, a data URI or base64."""

from __future__ import annotations

from pathlib import Path

from farm.errors import InvalidInput
from farm.store import keys

SHORTEST_BASE64 = 200
"""A shorter text that names no file is a misspelt path, not media."""


def local(source: str, field: str) -> Path | bytes | None:
    """What the caller holds, as a file or as bytes; None for what lies elsewhere, InvalidInput for nothing at all."""
    from farm.net.download import decode_inline

    if source.lower().startswith(("http://", "https://", keys.SCHEME)):
        return None
    if source[:5].lower() == "data:":
        return decode_inline(source, field=field, max_bytes=2**31)
    try:
        path = Path(source).expanduser()
        if path.is_file():
            return path
    except (OSError, ValueError, RuntimeError):  # too long for a name, a zero byte, no such user
        pass
    if len(source) >= SHORTEST_BASE64:
        return decode_inline(source, field=field, max_bytes=2**31)
    raise InvalidInput(
        f"{field}: got {source!r}; there is no such file; allowed: a file, an http(s) URL, a data URI, base64"
    )
