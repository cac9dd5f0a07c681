"""What single values of a request must be; each check returns the value, or raises."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from pydantic_core import PydanticCustomError

from farm.net.public import url_host
from farm.net.signing import origin
from farm.presets import PRESETS

SCHEMES = ("http", "https", "store")
"""Allowed schemes of a source that is a URL."""

SIZES = list(dict.fromkeys(size for each in PRESETS.values() for size in each.sizes))
"""All sizes of all models."""

MAX_URL = 4_000
"""Characters of a URL. Another source may be longer: it is inline data, which is uploaded."""


def check_scheme(value: str) -> str:
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", value)
    if scheme and scheme[1].lower() not in SCHEMES:
        raise PydanticCustomError("source", "URLs may start with http://, https:// or store://")
    if scheme and scheme[1].lower() != "store" and url_host(value) is None:
        raise PydanticCustomError("source", "a URL needs the name or the address of a host")
    if scheme and len(value) > MAX_URL:
        raise PydanticCustomError("source", f"a URL may have at most {MAX_URL} characters")
    return value


def check_plain(value: str) -> str:
    if re.search(r"<speak[\s>/]", value, re.IGNORECASE):
        raise PydanticCustomError("plain", "SSML is not supported; it must be plain text")
    return value


def check_not_blank(value: str) -> str:
    if not value.strip():
        raise PydanticCustomError("blank", "it must not be blank")
    return value


def check_4n_plus_1(value: int) -> int:
    if value % 4 != 1:
        below = (value - 1) // 4 * 4 + 1
        reason = "the video model packs four frames in one"
        raise PydanticCustomError("4n+1", f"it must be 4n+1 ({reason}): {below} or {below + 4}")
    return value


def check_size(value: str) -> str:
    if value not in SIZES:
        raise PydanticCustomError("size", "no model makes that size")
    return value


def check_corners(value: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x_min, y_min, x_max, y_max = value
    if not (0 <= x_min < x_max and 0 <= y_min < y_max):
        rule = "it must satisfy 0 <= x_min < x_max and 0 <= y_min < y_max"
        raise PydanticCustomError("corners", rule)
    return value


def box_to_boxes(value: Any) -> Any:
    """A single box belongs to the first speaker."""
    if isinstance(value, list | tuple):
        return {"person1": value}
    return value


def check_prefix(value: str) -> str:
    names = value.split("/")
    has_bad_name = any(name in ("", ".", "..") or len(name.encode()) > 255 for name in names)
    if has_bad_name or "\\" in value or not value.isprintable():
        rule = "it must be names separated by /, none of them empty, '.', '..' or above 255 bytes"
        raise PydanticCustomError("names", rule)
    return value


def _is_https_url(value: str) -> bool:
    """Whether a text is an https URL with a host, and without credentials and fragment."""
    try:
        origin(value)
    except ValueError:
        return False
    parts = urlsplit(value)
    return "@" not in parts.netloc and not parts.fragment


def check_webhook(value: str) -> str:
    if not _is_https_url(value) or not value.isprintable() or " " in value:
        rule = "it must be https:// with a host, without password, # and spaces"
        raise PydanticCustomError("receiver", rule)
    return value
