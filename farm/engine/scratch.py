"""The folder on this machine in which an attempt works, and those whose worker died."""

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
"""A file in each folder that is locked for as long as its process lives: unlike a process id, no other can have it."""

YOUNG_S = 60.0
"""A younger folder may be about to be locked."""


@contextmanager
def scratch_folder(job_id: str) -> Iterator[Path]:
    """A folder of one's own, which goes when the block ends."""
    with (
        tempfile.TemporaryDirectory(prefix=f"{PREFIX}{job_id}-") as name,
        Path(name, LOCK).open("w") as lock,
    ):
        _lock(lock)
        yield Path(name)


def abandoned() -> Iterator[Path]:
    """The folders of this machine whose process died."""
    for lock in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}")):
        with (
            suppress(OSError),
            lock.open("a") as file,
        ):  # it went meanwhile, or is in use, or another user's
            if time.time() - lock.stat().st_mtime > YOUNG_S:
                _lock(file)
                yield lock.parent


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def remove(folder: Path) -> None:
    """Removes a folder with all that is in it."""
    shutil.rmtree(folder, ignore_errors=True)


def _lock(file: IO[str]) -> None:
    """Locks a file for this process; BlockingIOError if another has locked it."""
    import fcntl  # not on Windows, where clients run but no workers

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
