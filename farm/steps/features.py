"""Features that depend on an input and an encoder alone: made once, then shared by jobs and machines."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from farm.steps.work import Work
from farm.store import keys

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE_BYTES = 1 << 20
"""How much of each end of a weights file tells it from another; hashing all of a text encoder would take a minute."""


def remembered(work: Work, kind: str, encoder: Path, content: str | bytes, make: Callable[[], Tensor]) -> str:
    """The key of a safetensors file with the tensor `features`, which is made only if no job made it before."""
    from safetensors.torch import save

    key = keys.shared(kind, fingerprint(encoder), content)
    if work.store.size(key) is None:
        work.store.put(key, save({"features": make().contiguous()}))
    return key


@cache
def fingerprint(folder: Path) -> str:
    """Tells the weights in a folder from all others: names, sizes, and both ends of every file."""
    hashed = hashlib.sha256()
    for file in sorted(file for file in folder.iterdir() if file.is_file()):
        size = file.stat().st_size
        hashed.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as opened:
            hashed.update(opened.read(SAMPLE_BYTES))
            opened.seek(max(0, size - SAMPLE_BYTES))
            hashed.update(opened.read(SAMPLE_BYTES))
    return hashed.hexdigest()
