"""The folder of what visitors upload; to make room, the oldest uploads are deleted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from starlette.exceptions import HTTPException

MAX_UPLOADS = 1000


class Uploads:
    """At most `max_bytes` and `MAX_UPLOADS` uploads in a folder, those that arrive included."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._arriving_bytes = 0

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Keeps room for an upload of `size` bytes, which arrives while the block runs.

        Raises HTTPException 503 while too many others arrive.
        """
        if self._arriving_bytes + size > self.max_bytes:
            raise HTTPException(503, "too many uploads at once; try again later")
        self._arriving_bytes += size
        try:
            self._delete_oldest(self.max_bytes - self._arriving_bytes)
            yield
        finally:
            self._arriving_bytes -= size

    def _delete_oldest(self, max_bytes: int) -> None:
        """Deletes uploads until one more than there are may come, and `max_bytes` are left."""
        kept_bytes = 0
        for number, (_, size, path) in enumerate(self._newest_first(), start=1):
            kept_bytes += size
            if number >= MAX_UPLOADS or kept_bytes > max_bytes:
                _delete(path)

    def _newest_first(self) -> list[tuple[float, int, Path]]:
        """Time of change, size in bytes and path: a folder per upload, or a file that arrives."""
        found = []
        for path in self.folder.iterdir():
            # Gradio deletes uploads too, in another thread.
            with suppress(FileNotFoundError):
                size = sum(each.stat().st_size for each in (path, *path.glob("*")))
                found.append((path.stat().st_mtime, size, path))
        return sorted(found, reverse=True)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
