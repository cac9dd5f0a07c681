"""Goods by key: everything heavier than a ticket (pixels, sound, tensors) goes through a store."""

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
    """Whole objects under keys like `jobs/4f2a/mux/0001/video.mp4`; a reader sees an object complete or not at all."""

    def put(self, key: str, source: Path | bytes) -> None:
        """Stores a file or bytes, in one atomic act; raises UploadFailed."""

    def get(self, key: str) -> bytes:
        """A small object; raises KeyError."""

    def fetch(self, key: str, path: Path) -> Path:
        """A large object as a file at `path`, to be read and not written; raises KeyError."""

    def size(self, key: str) -> int | None:
        """Bytes of an object, None where there is none."""

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys that begin with `prefix`, sorted."""

    def delete(self, key: str) -> None:
        """Removes an object, or does nothing where there is none."""

    def url(self, key: str) -> str:
        """Where a person can take the object from."""

    def link(self, key: str, *, page: str) -> str:
        """How a text stored as `page` names the object, so that whoever can read the one can read the other."""


def is_key(text: str) -> bool:
    """Whether any make of store can hold something under this name."""
    return all(part not in ("", ".", "..") for part in text.split("/")) and "\0" not in text and "\\" not in text


def check_key(key: str) -> str:
    """A key that any make of store can hold; InvalidInput for one that could lead out of a folder."""
    if not is_key(key):
        raise InvalidInput(f"store key: got {key!r}; allowed: names with / between, none of them empty, '.' or '..'")
    return key


def relative_link(key: str, page: str) -> str:
    """A key as a name that starts from the folder of another key, written as in a URL."""
    return quote(relpath(check_key(key), dirname(check_key(page))))


def open_store(url: str, settings: Settings | None = None) -> Store:
    """The store at an address: `file:///folder`, `s3://bucket/prefix` of the settings' service, or `memory://`.

    `memory://` is for this process alone. Nothing is contacted yet.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        from farm.store.local import LocalStore

        return LocalStore(Path(unquote(parts.path)), retry_s=settings.store_retry_s if settings else 0)
    if parts.scheme == "s3" and not parts.query and not parts.fragment and "@" not in parts.netloc:
        from farm.store.s3 import S3Store

        return S3Store(parts.netloc, parts.path.strip("/"), settings or Settings.load({}))
    if url == "memory://":
        from farm.store.memory import MemoryStore

        return MemoryStore()
    allowed = "file:///folder, s3://bucket/prefix or memory://"
    raise InvalidInput(f"FARM_STORE_URL: got {without_credentials(url)!r}; allowed: {allowed}")


def without_credentials(url: str) -> str:
    """An address as a message may show it."""
    return re.sub("//.*@", "//", url)
