"""A store behind signed URLs: the objects that they grant, and nothing else of the farm's.

What it can reach is decided by whoever signed the URLs; it has no credentials of its own. Features
that are computed here, which nobody else needs, stay in this process.
"""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from farm.errors import FarmUnreachable, InvalidInput, UploadFailed
from farm.store import keys

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
BLOCK_BYTES = 1 << 20
CONNECTIONS = 16
MAX_FEATURES = 64
"""Text features that are kept, of a few megabytes each."""


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
        md5 = b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        status = self._send("PUT", url, key, content, {"Content-MD5": md5})
        if status >= 300:
            raise UploadFailed(f"the store refuses {key} (HTTP {status})")
        return None

    def get(self, key: str) -> bytes:
        if key in _features():
            return _features()[key][1]
        path = self._prefetched.get(key)
        return path.read_bytes() if path else b"".join(self._read(key))

    def fetch(self, key: str, path: Path) -> Path:
        prefetched = self._prefetched.get(key)
        if prefetched:
            return path.resolve() if path == prefetched else _link(prefetched, path)
        with path.open("wb") as file:
            for block in self._read(key):
                file.write(block)
        return path

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
        """Empty: whoever has the farm's credentials makes the links."""
        return ""

    def _prefetch(self, numbered: tuple[int, str]) -> None:
        number, key = numbered
        self._prefetched[key] = self.fetch(key, self._folder / f"prefetched-{number}")

    def _read(self, key: str) -> Iterator[bytes]:
        url = self.grants.reads.get(key)
        if url is None:
            raise _not_granted(key)
        try:
            response = _pool().request("GET", url, preload_content=False, redirect=False)
            try:
                _check_read(response.status, key)
                yield from response.stream(BLOCK_BYTES)
            finally:
                response.release_conn()
        except HTTPError as error:
            raise FarmUnreachable(_broken(key, error)) from None

    def _send(self, method: str, url: str, key: str, body: bytes, headers: dict[str, str]) -> int:
        try:
            return _pool().request(method, url, body=body, headers=headers, redirect=False).status
        except HTTPError as error:
            raise UploadFailed(_broken(key, error)) from None


def _check_read(status: int, key: str) -> None:
    if status == 404:
        raise KeyError(key)
    if status >= 300:
        raise FarmUnreachable(
            f"the store refuses to read {key} (HTTP {status}); its signed URL may have expired"
        )


def _link(source: Path, path: Path) -> Path:
    path.unlink(missing_ok=True)
    path.hardlink_to(source)
    return path


def _not_granted(key: str) -> InvalidInput:
    return InvalidInput(f"store: got {key!r}; allowed: the objects that the order grants")


def _broken(key: str, error: HTTPError) -> str:
    """An error of the connection, without its text: that has the URL."""
    cause = getattr(error, "reason", None) or error
    return f"the store could not be reached for {key} ({type(cause).__name__})"


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
    """One for the process; single requests are repeated for about half a minute."""
    retry = Retry(
        total=5,
        redirect=False,
        backoff_factor=1,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=None,
        raise_on_status=False,
        respect_retry_after_header=False,
    )
    timeout = Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S)
    return PoolManager(maxsize=CONNECTIONS, retries=retry, timeout=timeout)
