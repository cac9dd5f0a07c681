"""The objects that a chunk reads, by their keys in the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from farm.engine.step_context import StepContext
from farm.plan import Chunk, audio_rows
from farm.registry.outputs import EmbedOutput
from farm.store import keys

ROWS_PER_OBJECT = 250
"""Ten seconds of video: a chunk of 81 frames reads one or two objects, and an hour has 360."""

CHUNKS_PER_TRACK = 20
"""About a minute: a chunk fetches one piece of the track, and an hour has 63 instead of 1,250."""


class SourceImage(NamedTuple):
    """The image that a chunk starts from, as a PNG with `scale` pixels for each of the source."""

    key: str
    scale: float


def keys_read(ctx: StepContext, chunk: Chunk) -> list[str]:
    """All keys that the step `generate` reads, but those of text features."""
    embedded = ctx.embed_output
    visual = condition_key(ctx, chunk) or source_image(ctx, chunk).key
    tail = previous_tail_key(ctx, chunk)
    rows = audio_rows(chunk, embedded.rows)
    return [
        visual,
        *([tail] if tail else []),
        track_key(embedded, chunk),
        *(name for prefix in embedded.embedding_prefixes for name in keys_of_rows(prefix, rows)),
    ]


def condition_key(ctx: StepContext, chunk: Chunk) -> str | None:
    """The condition that all chunks of an image share; None if this chunk computes its own."""
    if ctx.download_output.visual_kind == "video" or chunk.index == 0:
        return None
    key = ctx.chunk_output(0).condition_key
    if key is None:
        raise LookupError(f"job {ctx.job_id}: the first chunk left no condition of its image")
    return key


def source_image(ctx: StepContext, chunk: Chunk) -> SourceImage:
    """The image that a chunk starts from."""
    source = ctx.download_output
    if source.visual_kind == "image":
        return SourceImage(source.visual_key, source.visual_scale)
    embedded = ctx.embed_output
    last = len(embedded.source_keys) - 1
    return SourceImage(embedded.source_keys[min(chunk.index, last)], embedded.source_scale)


def previous_tail_key(ctx: StepContext, chunk: Chunk) -> str | None:
    """The tail of the chunk before; None for the first chunk."""
    if chunk.index == 0:
        return None
    key = ctx.chunk_output(chunk.index - 1).tail_key
    if key is None:
        raise LookupError(f"job {ctx.job_id}: chunk {chunk.index - 1} left no tail")
    return key


def track_key(embedded: EmbedOutput, chunk: Chunk) -> str:
    """The piece of the track that has the audio of a chunk."""
    return embedded.aac_keys[chunk.index // CHUNKS_PER_TRACK]


def keys_of_rows(prefix: str, rows: Sequence[int]) -> list[str]:
    """The objects that hold rows of an embedding, in order."""
    numbers = range(min(rows) // ROWS_PER_OBJECT, max(rows) // ROWS_PER_OBJECT + 1)
    return [keys.piece(prefix, number) for number in numbers]
