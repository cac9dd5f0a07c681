"""Features that depend on an input and an encoder alone: made once, then shared by jobs and machines."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from farm.engine.step_context import StepContext
from farm.store import keys

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE_BYTES = 1 << 20
"""How much of each end of a weights file tells it from another; hashing all of a text encoder would take a minute."""

PIECE = 250
"""Rows of an object, ten seconds of video: an hour is neither read for each chunk nor ten thousand objects."""


def remembered(ctx: StepContext, kind: str, encoder: Path, content: str | bytes, make: Callable[[], Tensor]) -> str:
    """The key of a safetensors file with the tensor `features`, which is made only if no job made it before."""
    from safetensors.torch import save

    key = keys.shared(kind, fingerprint(encoder), content)
    if ctx.store.size(key) is None:
        ctx.store.put(key, save({"features": make().contiguous()}))
    return key


def laid(
    ctx: StepContext,
    kind: str,
    encoder: Path,
    content: bytes | memoryview,
    *,
    stretches: Iterable[range],
    make: Callable[[range], Tensor],
) -> str:
    """What the keys of a recording's rows begin with, now all in the store, PIECE of them in each object.

    They are made stretch by stretch, each a multiple of PIECE but the last; those whose objects are all there are not
    made, be it by another job or by a worker that did not come to the end.
    """
    import torch
    from safetensors.torch import save

    folder = keys.shared(kind, fingerprint(encoder), content)
    there = set(ctx.store.keys(f"{folder}/"))
    for stretch in stretches:
        names = [keys.piece(folder, first // PIECE) for first in stretch[::PIECE]]
        if there.issuperset(names):
            continue
        ctx.make_way()
        for name, rows in zip(names, torch.split(make(stretch).contiguous(), PIECE), strict=True):
            ctx.store.put(name, save({"features": rows}))
    return folder


def rows_of(ctx: StepContext, folder: str, rows: Sequence[int]) -> Tensor:
    """Some rows of a recording, in their order; no more is read than the pieces that hold them."""
    import torch
    from safetensors.torch import load

    pieces = range(min(rows) // PIECE, max(rows) // PIECE + 1)
    held = torch.cat([load(ctx.store.get(keys.piece(folder, piece)))["features"] for piece in pieces])
    return held[torch.tensor(rows) - pieces.start * PIECE]


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
