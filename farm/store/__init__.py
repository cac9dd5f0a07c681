"""Objects by key: everything too large for a message (pixels, audio, tensors) is in a store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, relpath
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

from farm.errors import InvalidInput
from farm.settings import Settings


class Store(Protocol):
    """Objects under keys like `jobs/4f2a/mux/0001/video.mp4`.

    Writes are atomic: a reader sees an object complete or not at all.
    """

    def put(self, key: str, source: Path | bytes) -> None:
        """Stores a file or bytes atomically; raises UploadFailed."""

    def get(self, key: str) -> bytes:
        """A small object's bytes; raises KeyError."""

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """An object's bytes from `start` up to `stop`, which it has; raises KeyError."""

    def fetch(self, key: str, path: Path) -> Path:
        """Copies or links a large object to `path`, which must not be written; raises KeyError."""

    def size(self, key: str) -> int | None:
        """Size of an object in bytes; None if there is none."""

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys that begin with `prefix`, sorted."""

    def written_at(self, prefix: str) -> dict[str, float]:
        """When each object whose key begins with `prefix` was written: seconds since 1970."""

    def delete(self, key: str) -> None:
        """Deletes an object if there is one."""

    def url(self, key: str) -> str:
        """A URL from which a person can download the object."""

    def link(self, key: str, *, page: str) -> str:
        """A link to the object for a page stored as `page`; readers of the page can follow it."""


def is_key(text: str) -> bool:
    """Whether a text is a valid key in every kind of store."""
    has_bad_name = any(name in ("", ".", "..") for name in text.split("/"))
    return not has_bad_name and "\0" not in text and "\\" not in text


def check_key(key: str) -> str:
    """The key; raises InvalidInput if it is not valid, and so could lead out of a folder."""
    if not is_key(key):
        allowed = "names separated by /, none of them empty, '.' or '..'"
        raise InvalidInput(f"store key: got {key!r}; allowed: {allowed}")
    return key


def relative_link(key: str, page: str) -> str:
    """A key relative to the folder of another key, quoted for a URL."""
    folder = dirname(check_key(page))
    return quote(relpath(check_key(key), folder))


def open_store(url: str, settings: Settings | None = None) -> Store:
    """The store at a URL: `file:///folder`, `s3://bucket/prefix` or `memory://`.

    The settings choose the S3 service. `memory://` is private to this process. Nothing is contacted
    yet.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        from farm.store.local import LocalStore

        retry_s = settings.store_retry_s if settings else 0
        return LocalStore(Path(unquote(parts.path)), retry_s=retry_s)
    has_extras = parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme == "s3" and not has_extras:
        from farm.store.s3 import S3Store

        return S3Store(parts.netloc, parts.path.strip("/"), settings or Settings.load({}))
    if url == "memory://":
        from farm.store.memory import MemoryStore

        return MemoryStore()
    allowed = "file:///folder, s3://bucket/prefix or memory://"
    raise InvalidInput(f"FARM_STORE_URL: got {without_credentials(url)!r}; allowed: {allowed}")


def without_credentials(url: str) -> str:
    """A URL for messages, without user and password."""
    return re.sub("//.*@", "//", url)
