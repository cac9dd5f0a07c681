"""What a worker tells strangers about a failure: the contract's error object, and no more."""

from __future__ import annotations

import re
import socket
from typing import Any

from farm.errors import FarmError, InvalidInput

TRACEBACK = re.compile(r"\s*Traceback \(most recent call last\).*", re.S)
QUERY = re.compile(r"(\w+://[^\s?#'\"]*)\?[^\s'\"]*")
"""What follows the path of a URL: signatures and keys are there."""

LOGIN = re.compile(r"(\w+://)[^\s/@'\"]*@")
FOLDERS = re.compile(r"file://[^\s'\"]*/|(?<![\w.:/])/(?:[\w.@+%~-]+/)+")
"""The folders of a path on this machine; the name of the file stays."""


def describe(error: BaseException, *, at_stage: str) -> dict[str, Any]:
    """The contract's error object for whatever was raised."""
    named = error if isinstance(error, FarmError) else _unforeseen(error)
    described = named.describe(at_stage=at_stage)
    # An invalid value is the caller's own, also one that looks like a path.
    return redact(described, folders=not isinstance(error, InvalidInput))


def redact(shown: dict[str, Any], *, folders: bool = True) -> dict[str, Any]:
    """An object without tracebacks, folders, host name, logins and queries of URLs."""

    def redacted(value: Any) -> Any:
        if isinstance(value, dict):
            return redact(value, folders=folders)
        return _redacted(value, folders=folders) if isinstance(value, str) else value

    return {name: redacted(value) for name, value in shown.items()}


def _unforeseen(error: BaseException) -> FarmError:
    named = FarmError(f"{type(error).__name__}: {error}")
    named.__cause__ = error
    return named


def _redacted(text: str, *, folders: bool) -> str:
    text = QUERY.sub(r"\1", LOGIN.sub(r"\1", TRACEBACK.sub("", text)))
    if folders:
        text = FOLDERS.sub("", text)
    host = socket.gethostname()
    return re.sub(rf"\b{re.escape(host)}\b", "the worker", text) if host else text
