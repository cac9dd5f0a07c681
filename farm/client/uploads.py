"""Sources that the caller holds: a path, a data URI or base64."""

from __future__ import annotations

from pathlib import Path

from farm.errors import InvalidInput
from farm.store import keys

MIN_BASE64 = 200
"""Characters. A shorter text that names no file is a misspelt path, not media."""

MAX_BYTES = 2**31


def local_content(source: str, field: str) -> Path | bytes | None:
    """The file or the bytes of a source; None for a URL.

    Raises InvalidInput for anything else.
    """
    from farm.net.download import decode_inline

    if source.lower().startswith(("http://", "https://", keys.SCHEME)):
        return None
    if source[:5].lower() == "data:":
        return decode_inline(source, field=field, max_bytes=MAX_BYTES)
    try:
        path = Path(source).expanduser()
        if path.is_file():
            return path
    except (OSError, ValueError, RuntimeError):  # too long for a name, a zero byte, no such user
        pass
    if len(source) >= MIN_BASE64:
        return decode_inline(source, field=field, max_bytes=MAX_BYTES)
    raise InvalidInput(
        f"{field}: got {source!r}; there is no such file; "
        "allowed: a file, an http(s) URL, a data URI, base64"
    )
