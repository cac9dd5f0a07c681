"""A disk that is soon full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BLOCK = bytes(4096)


@contextmanager
def small_disk(folder: Path, *, megabytes: int) -> Iterator[None]:
    """Mounts a small disk at a new folder; PermissionError unless this process runs as root."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "farm", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        raise PermissionError(f"{folder}: no disk could be mounted there, which only root may do")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_disk(path: Path) -> Path:
    """A file that takes all the space that is left."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(BLOCK):
            pass
    return path
