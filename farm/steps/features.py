"""Features of an input and an encoder: computed once, shared by jobs and machines.

A damaged object is computed again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from farm.engine.retention import fresh_keys, is_fresh
from farm.engine.step_context import StepContext
from farm.errors import CorruptObject
from farm.logs import log
from farm.steps.chunk_objects import ROWS_PER_OBJECT, keys_of_rows
from farm.store import integrity, keys

if TYPE_CHECKING:
    from torch import Tensor


def cache_features(
    ctx: StepContext, kind: str, encoder: str, content: str | bytes, make: Callable[[], Tensor]
) -> Tensor:
    """The features of a content, computed unless they are stored and fresh.

    `encoder` is the fingerprint of the encoder's weights.
    """
    key = keys.shared(kind, encoder, content)

    def read() -> Tensor:
        stored = _stored(ctx, key) if is_fresh(ctx, key) else None
        return _features(stored or _store(ctx, key, make()))

    return ctx.kept.get(key, read)


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

    prefix = keys.shared(kind, encoder, content)
    fresh = fresh_keys(ctx, f"{prefix}/")
    for span in spans:
        names = [keys.piece(prefix, row // ROWS_PER_OBJECT) for row in span[::ROWS_PER_OBJECT]]
        ctx.raise_if_draining()
        if fresh.issuperset(names) and all(_stored(ctx, name) for name in names):
            continue
        for name, rows in zip(names, torch.split(make(span), ROWS_PER_OBJECT), strict=True):
            _store(ctx, name, rows)
    return prefix


def rows_of(ctx: StepContext, prefix: str, rows: Sequence[int]) -> Tensor:
    """Some rows of a recording, in the given order; only the objects that hold them are read.

    Raises CorruptObject; the next `embed` of the recording computes the object again.
    """
    import torch

    names = keys_of_rows(prefix, rows)
    pieces = [ctx.kept.get(name, partial(_read, ctx, name)) for name in names]
    offsets = torch.tensor(rows) - min(rows) // ROWS_PER_OBJECT * ROWS_PER_OBJECT
    return torch.cat(pieces)[offsets]


def _read(ctx: StepContext, key: str) -> Tensor:
    return _features(integrity.get_sealed(ctx.store, key))


def _stored(ctx: StepContext, key: str) -> bytes | None:
    """A shared object; None if the store lacks it, or has it damaged."""
    try:
        return integrity.get_sealed(ctx.store, key)
    except KeyError:
        return None
    except CorruptObject as error:
        log("shared_object_corrupt", level=logging.WARNING, reason=error.message)
        return None


def _store(ctx: StepContext, key: str, features: Tensor) -> bytes:
    from safetensors.torch import save

    content: bytes = save({"features": features.contiguous()})
    integrity.put_sealed(ctx.store, key, content)
    return content


def _features(content: bytes) -> Tensor:
    from safetensors.torch import load

    features: Tensor = load(content)["features"]
    return features
