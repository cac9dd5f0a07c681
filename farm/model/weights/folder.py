"""Files and folders that appear whole or not at all, however many processes write them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """An empty folder under a temporary name, renamed to `folder` if the block succeeds.

    OSError if `folder` has appeared meanwhile.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    temporary.chmod(0o755)  # mkdtemp's is for its owner alone, and workers may be other users
    try:
        yield temporary
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_atomically(file: Path, text: str) -> None:
    """Replaces a file, or creates it."""
    handle, temporary = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    with os.fdopen(handle, "w") as part:
        os.fchmod(handle, 0o644)  # mkstemp's is for its owner alone, and workers may be other users
        part.write(text)
    os.replace(temporary, file)
