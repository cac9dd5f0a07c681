"""Files with the certificates of authorities (CA) that vouch for servers."""

from __future__ import annotations

import ssl
from pathlib import Path

from farm.errors import InvalidInput


def checked_authorities(file: Path, *, variable: str) -> Path:
    """The file, with ~ expanded; InvalidInput, which names its variable, if it has none."""
    path = file.expanduser()
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        raise InvalidInput(
            f"{variable}: got {str(file)!r}; it has no certificates ({error}); "
            "allowed: a PEM file with CA certificates"
        ) from error
    return path
