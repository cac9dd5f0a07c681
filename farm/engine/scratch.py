"""The scratch folder of an attempt, and those that dead workers left behind."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PREFIX = "farm-"

LOCK = ".in-use"
"""A file in each folder, locked as long as its process lives. A process id could be reused."""

MIN_AGE_S = 60.0
"""A younger folder may be about to be locked."""


@contextmanager
def scratch_folder(job_id: str) -> Iterator[Path]:
    """A new folder, removed when the block ends."""
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{job_id}-") as name:
        folder = Path(name)
        with (folder / LOCK).open("w") as lock:
            _lock(lock)
            yield folder


def abandoned() -> Iterator[Path]:
    """The folders on this machine whose process died."""
    for path in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}")):
        # An OSError means that the folder was removed, is in use, or belongs to another user.
        with suppress(OSError), path.open("a") as lock:
            if time.time() - path.stat().st_mtime > MIN_AGE_S:
                _lock(lock)
                yield path.parent


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _lock(file: IO[str]) -> None:
    """Locks a file for this process; BlockingIOError if another process holds the lock."""
    import fcntl  # not on Windows, where clients run but no workers

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
