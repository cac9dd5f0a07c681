"""The scratch folder of an attempt, and those that dead workers left behind."""

from __future__ import annotations

import os
import re
import shutil
import stat
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
"""A folder that changed more recently may be about to be locked; most of those in use did."""


@contextmanager
def scratch_folder(job_id: str) -> Iterator[Path]:
    """A new folder, removed when the block ends.

    Those of processes that were killed are removed first: no `farm gc` reaches into a container.
    """
    for folder in abandoned():
        remove(folder)
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{job_id}-") as name:
        folder = Path(name)
        with (folder / LOCK).open("w") as lock:
            _lock(lock)
            yield folder


def paths_of(job_id: str) -> re.Pattern[str]:
    """What leads to the files in the scratch folders of a job, as errors of libraries say it."""
    return re.compile(rf"[^\s'\"(]*/{PREFIX}{re.escape(job_id)}-\w+/")


def abandoned() -> Iterator[Path]:
    """The folders on this machine whose process died."""
    changed_before = time.time() - MIN_AGE_S
    with os.scandir(tempfile.gettempdir()) as entries:
        folders = [entry for entry in entries if entry.name.startswith(PREFIX)]
    for entry in folders:
        # An OSError means that the folder was removed, is in use, or is none of ours.
        with suppress(OSError):
            if entry.stat(follow_symlinks=False).st_mtime < changed_before:
                folder = Path(entry.path)
                with _open_lock(folder) as lock:
                    _lock(lock)
                    yield folder


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _open_lock(folder: Path) -> IO[str]:
    """The lock of a folder of this user; OSError for anything else that has its name.

    Every user may write to the temporary folder: no link is followed, and no FIFO waited for.
    """
    inside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(inside).st_uid != os.geteuid():
            raise PermissionError(f"{folder} belongs to another user")
        lock = os.open(LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=inside)
    finally:
        os.close(inside)
    if not stat.S_ISREG(os.fstat(lock).st_mode):
        os.close(lock)
        raise FileNotFoundError(f"{folder} has no lock")
    return os.fdopen(lock, "r+")


def _lock(file: IO[str]) -> None:
    """Locks a file for this process; BlockingIOError if another process holds the lock."""
    import fcntl  # not on Windows, where clients run but no workers

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
