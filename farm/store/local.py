"""A store in a folder, for one machine or for several that mount the same volume."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from farm.errors import UploadFailed
from farm.logs import log
from farm.retry import retry_until
from farm.store import check_key, is_key, relative_link

RETRY_DELAY_S = 0.5

PART_PREFIX = ".part-"
"""Of the names of files that are still being written."""


class LocalStore:
    """Objects are files under `root`, written to a temporary name and renamed."""

    def __init__(self, root: Path, *, retry_s: float = 0) -> None:
        """Writes to a full or missing disk are retried for `retry_s` seconds."""
        self.root = root.expanduser().resolve()
        self.retry_s = retry_s

    def put(self, key: str, source: Path | bytes) -> None:
        path = self._path(key)
        try:
            retry_until(
                lambda: self._put(source, path),
                timeout_s=self.retry_s,
                is_retryable=lambda error: isinstance(error, OSError),
                delay_s=RETRY_DELAY_S,
                on_retry=_log_retry,
            )
        except OSError as error:
            raise UploadFailed(f"the store could not take {key}: {error.strerror}") from error

    def get(self, key: str) -> bytes:
        return self._existing(key).read_bytes()

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        with self._existing(key).open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def fetch(self, key: str, path: Path) -> Path:
        path.unlink(missing_ok=True)
        try:
            os.link(self._existing(key), path)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(self._existing(key), path)
        return path

    def size(self, key: str) -> int | None:
        path = self._path(key)
        if not path.is_file():
            return None
        return path.stat().st_size

    def keys(self, prefix: str) -> Iterator[str]:
        parent, slash, _ = prefix.rpartition("/")
        folder = self._path(parent) if slash else self.root
        files = (path for path in folder.rglob("*") if _is_object(path))
        keys = sorted(file.relative_to(self.root).as_posix() for file in files)
        return (key for key in keys if key.startswith(prefix))

    def written_at(self, prefix: str) -> dict[str, float]:
        # A whole key needs no listing of its folder.
        whole = is_key(prefix) and self._path(prefix).is_file()
        found = {}
        for key in [prefix] if whole else self.keys(prefix):
            with suppress(FileNotFoundError):  # removed meanwhile
                found[key] = self._path(key).stat().st_mtime
        return found

    def delete(self, key: str) -> None:
        with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            self._path(key).unlink()

    def url(self, key: str) -> str:
        return self._path(key).as_uri()

    def link(self, key: str, *, page: str) -> str:
        return relative_link(key, page)

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _existing(self, key: str) -> Path:
        path = self._path(key)
        if not path.is_file():
            raise KeyError(key)
        return path

    def _put(self, source: Path | bytes, path: Path) -> None:
        os.makedirs(path.parent, exist_ok=True)
        part = path.with_name(f"{PART_PREFIX}{secrets.token_hex(8)}")
        try:
            if isinstance(source, bytes):
                part.write_bytes(source)
            else:
                shutil.copyfile(source, part)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def _is_object(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(PART_PREFIX)


def _log_retry(error: Exception, delay_s: float) -> None:
    reason = error.strerror if isinstance(error, OSError) else error
    log("store_retry", reason=str(reason), delay_s=delay_s)
