"""A store behind signed URLs: the objects that they grant, and nothing else of the farm's.

The signer of the URLs decides what it can reach; it has no credentials of its own. Features that
are computed here are needed here alone, and stay in this process.
"""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict
from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError

from farm.errors import FarmUnreachable, InvalidInput, UploadFailed
from farm.logs import log
from farm.retry import retry_until
from farm.store import keys

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
RETRY_S = 30.0
FIRST_DELAY_S = 0.5
MAX_DELAY_S = 8.0
BLOCK_BYTES = 1 << 20
CONNECTIONS = 16
MAX_FEATURES = 64
"""Text features that are kept, of a few megabytes each."""

Answer = TypeVar("Answer")


class Grants(BaseModel):
    """Signed URLs by the key of their object."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    reads: dict[str, str]
    writes: dict[str, str]


class SignedStore:
    """The granted objects. No error names a URL, whose signature would give access."""

    def __init__(self, grants: Grants, folder: Path) -> None:
        """`folder` receives what is prefetched."""
        self.grants = grants
        self._folder = folder
        self._prefetched: dict[str, Path] = {}

    def prefetch(self, names: list[str]) -> None:
        """Fetches objects in advance, several at once; KeyError if one is missing."""
        with ThreadPoolExecutor(CONNECTIONS // 2) as pool:
            list(pool.map(self._prefetch, enumerate(names)))

    def put(self, key: str, source: Path | bytes) -> None:
        url = self.grants.writes.get(key)
        if url is None:
            return _keep(key, source)
        content = source if isinstance(source, bytes) else source.read_bytes()
        try:
            _repeated(key, lambda: _upload(key, url, content))
        except FarmUnreachable as error:
            raise UploadFailed(error.message) from None
        return None

    def get(self, key: str) -> bytes:
        if key in _features():
            return _features()[key][1]
        path = self._prefetched.get(key)
        if path:
            return path.read_bytes()
        url = self._readable(key)
        return _repeated(key, lambda: _download(key, url, b"".join))

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        return self.get(key)[start:stop]

    def fetch(self, key: str, path: Path) -> Path:
        prefetched = self._prefetched.get(key)
        if prefetched:
            path.unlink(missing_ok=True)
            path.hardlink_to(prefetched)
            return path
        return self._fetch(key, path)

    def size(self, key: str) -> int | None:
        try:
            return len(self.get(key))
        except KeyError:
            return None

    def keys(self, prefix: str) -> Iterator[str]:
        return iter(sorted(self.written_at(prefix)))

    def written_at(self, prefix: str) -> dict[str, float]:
        """The features that were computed here: nothing else can be listed."""
        return {key: at for key, (at, _) in _features().items() if key.startswith(prefix)}

    def delete(self, key: str) -> None:
        raise _not_granted(key)

    def url(self, key: str) -> str:
        raise _not_granted(key)

    def link(self, key: str, *, page: str) -> str:
        """Empty: making links takes the farm's credentials."""
        return ""

    def _prefetch(self, numbered: tuple[int, str]) -> None:
        number, key = numbered
        self._prefetched[key] = self._fetch(key, self._folder / f"prefetched-{number}")

    def _fetch(self, key: str, path: Path) -> Path:
        url = self._readable(key)
        return _repeated(key, lambda: _download(key, url, lambda blocks: _write(path, blocks)))

    def _readable(self, key: str) -> str:
        url = self.grants.reads.get(key)
        if url is None:
            raise _not_granted(key)
        return url


def _repeated(key: str, call: Callable[[], Answer]) -> Answer:
    """The result of a call, repeated for a while if the store or the connection fails.

    By ourselves, because urllib3 logs what it repeats, with the URL.
    """
    return retry_until(
        call,
        timeout_s=RETRY_S,
        is_retryable=lambda error: isinstance(error, _Broken),
        delay_s=FIRST_DELAY_S,
        max_delay_s=MAX_DELAY_S,
        on_retry=lambda error, delay_s: log("store_retry", key=key, delay_s=delay_s),
    )


def _download(key: str, url: str, read: Callable[[Iterator[bytes]], Answer]) -> Answer:
    """What `read` makes of an object's blocks."""
    try:
        response = _pool().request("GET", url, preload_content=False, redirect=False, retries=False)
        try:
            _check(response.status, key)
            return read(response.stream(BLOCK_BYTES))
        finally:
            response.release_conn()
    except HTTPError as error:
        raise _Broken(key, type(error).__name__) from None


def _upload(key: str, url: str, content: bytes) -> None:
    md5 = b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
    headers = {"Content-MD5": md5}
    try:
        response = _pool().request(
            "PUT", url, body=content, headers=headers, redirect=False, retries=False
        )
    except HTTPError as error:
        raise _Broken(key, type(error).__name__) from None
    _check(response.status, key)


class _Broken(FarmUnreachable):
    """The store, or the connection to it, failed for now."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"the store could not be reached for {key} ({reason})")


def _check(status: int, key: str) -> None:
    if status == 404:
        raise KeyError(key)
    if status == 429 or status >= 500:
        raise _Broken(key, f"HTTP {status}")
    if status >= 300:
        raise FarmUnreachable(
            f"the store refuses {key} (HTTP {status}); its signed URL may have expired"
        )


def _write(path: Path, blocks: Iterator[bytes]) -> Path:
    with path.open("wb") as file:
        file.writelines(blocks)
    return path


def _not_granted(key: str) -> InvalidInput:
    return InvalidInput(f"store: got {key!r}; allowed: the objects that the order grants")


def _keep(key: str, source: Path | bytes) -> None:
    """Keeps features in this process, the newest MAX_FEATURES of them."""
    if not key.startswith(keys.SHARED) or not isinstance(source, bytes):
        raise _not_granted(key)
    features = _features()
    features[key] = (time.time(), source)
    for oldest in sorted(features, key=lambda each: features[each][0])[:-MAX_FEATURES]:
        del features[oldest]


@cache
def _features() -> dict[str, tuple[float, bytes]]:
    """Features that this process computed, by key, with the time."""
    return {}


@cache
def _pool() -> PoolManager:
    """One for the process: it keeps connections."""
    timeout = Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S)
    return PoolManager(maxsize=CONNECTIONS, timeout=timeout)
