"""The parts of a stream: each finished chunk, then the result."""

from __future__ import annotations

from typing import Any

from farm.engine.advance import chunk_count
from farm.engine.context import Context
from farm.engine.playlist import finished_chunks
from farm.job import JobStatus
from farm.registry.outputs import ChunkOutput


def take_parts(ctx: Context, status: JobStatus) -> list[dict[str, Any]]:
    """The parts of a job that no stream has been given yet, which are now this one's."""
    chunks = chunk_count(ctx, status.job_id)
    finished = finished_chunks(ctx, status.job_id, chunks)
    available = len(finished) + (status.result is not None)
    return [
        {"output": {"job_id": status.job_id, **_chunk(ctx, number, chunks, finished[number])}}
        if number < len(finished)
        else {"output": _result(status)}
        for number in ctx.registry.parts.take(status.job_id, available)
    ]


def _chunk(ctx: Context, number: int, chunks: int | None, output: ChunkOutput) -> dict[str, Any]:
    """A segment in fragmented MP4, and the initialisation section that precedes it."""
    return {
        "chunk": number,
        "chunks": chunks,
        "frames": output.frames,
        "url": ctx.store.url(output.segment_key),
        "init_url": ctx.store.url(output.init_key),
    }


def _result(status: JobStatus) -> dict[str, Any]:
    return {} if status.result is None else status.result.model_dump(mode="json", exclude_none=True)
