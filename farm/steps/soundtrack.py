"""The audio of the segments: AAC in pieces, from which each chunk takes its packets."""

from __future__ import annotations

from pathlib import Path

from farm.engine.step_context import StepContext
from farm.media.aac import first_packet, packets, split_track, write_track
from farm.plan import Chunk, Plan
from farm.steps.chunk_objects import CHUNKS_PER_TRACK, track_key


def store_track(ctx: StepContext, audio: Path, plan: Plan) -> list[str]:
    """Stores the audio as AAC, and returns the keys of its pieces."""
    track = ctx.scratch / "track.aac"
    write_track(audio, track, frames=plan.frames)
    starts = [plan.chunk(index).first for index in range(0, plan.chunks, CHUNKS_PER_TRACK)]
    return [
        ctx.put(piece, f"track-{number:04d}.aac")
        for number, piece in enumerate(split_track(track, starts))
    ]


def packets_of_chunk(ctx: StepContext, plan: Plan, chunk: Chunk) -> list[bytes]:
    """The AAC packets that begin while a chunk is shown."""
    key = track_key(ctx.embed_output, chunk)
    track = ctx.kept.get(key, lambda: list(packets(ctx.fetch(key, "track.aac"))))
    first = chunk.index // CHUNKS_PER_TRACK * CHUNKS_PER_TRACK
    before = first_packet(plan.chunk(first).first)
    begin = first_packet(chunk.first) - before
    end = first_packet(chunk.first + chunk.keep) - before
    return track[begin:end]
