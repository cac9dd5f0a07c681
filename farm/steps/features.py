"""Features of an input and an encoder: computed once, shared by jobs and machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from farm.engine.step_context import StepContext
from farm.store import keys

if TYPE_CHECKING:
    from torch import Tensor

ROWS_PER_OBJECT = 250
"""Ten seconds of video: a chunk of 81 frames reads one or two objects, and an hour has 360."""


def cache_features(
    ctx: StepContext, kind: str, encoder: str, content: str | bytes, make: Callable[[], Tensor]
) -> str:
    """The key of a safetensors file with the tensor `features`, computed unless stored.

    `encoder` is the fingerprint of the encoder's weights.
    """
    from safetensors.torch import save

    key = keys.shared(kind, encoder, content)
    if ctx.store.size(key) is None:
        ctx.store.put(key, save({"features": make().contiguous()}))
    return key


def cache_rows(
    ctx: StepContext,
    kind: str,
    encoder: str,
    content: bytes | memoryview,
    *,
    spans: Iterable[range],
    make: Callable[[range], Tensor],
) -> str:
    """The prefix of the keys of a recording's rows, ROWS_PER_OBJECT of them in each object.

    Rows are computed span by span, each a multiple of ROWS_PER_OBJECT but the last. Spans in the
    store, from another job or an interrupted attempt, are not computed again.
    """
    import torch
    from safetensors.torch import save

    prefix = keys.shared(kind, encoder, content)
    stored = set(ctx.store.keys(f"{prefix}/"))
    for span in spans:
        names = [keys.piece(prefix, row // ROWS_PER_OBJECT) for row in span[::ROWS_PER_OBJECT]]
        if stored.issuperset(names):
            continue
        ctx.raise_if_draining()
        pieces = torch.split(make(span).contiguous(), ROWS_PER_OBJECT)
        for name, rows in zip(names, pieces, strict=True):
            ctx.store.put(name, save({"features": rows}))
    return prefix


def rows_of(ctx: StepContext, prefix: str, rows: Sequence[int]) -> Tensor:
    """Some rows of a recording, in the given order; only the objects that hold them are read."""
    import torch
    from safetensors.torch import load

    numbers = range(min(rows) // ROWS_PER_OBJECT, max(rows) // ROWS_PER_OBJECT + 1)
    pieces = [load(ctx.store.get(keys.piece(prefix, number)))["features"] for number in numbers]
    offsets = torch.tensor(rows) - numbers.start * ROWS_PER_OBJECT
    return torch.cat(pieces)[offsets]
