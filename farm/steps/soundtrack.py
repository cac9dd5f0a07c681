"""The sound for those who watch the video grow: in the store in pieces, of which each chunk takes its packets."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from farm.engine.route import Step
from farm.engine.step_context import StepContext
from farm.media.aac import first_packet, packets, split_track, write_track
from farm.plan import Chunk, Plan

CHUNKS = 20
"""How many chunks share a piece, a minute or so: an hour is then neither read for each chunk nor a thousand objects."""


def lay(ctx: StepContext, sound: Path, plan: Plan) -> list[str]:
    """The store keys of the sound's pieces."""
    track = ctx.scratch / "track.aac"
    write_track(sound, track, frames=plan.frames)
    starts = [plan.chunk(index).first for index in range(0, plan.chunks, CHUNKS)]
    return [ctx.put(piece, f"track-{index:04d}.aac") for index, piece in enumerate(split_track(track, starts))]


def heard(ctx: StepContext, plan: Plan, chunk: Chunk) -> list[bytes]:
    """The packets that begin while a chunk is shown."""
    piece = chunk.index // CHUNKS
    path = ctx.fetch(ctx.output(Step("embed"))["track"][piece], "track.aac")
    before = first_packet(plan.chunk(piece * CHUNKS).first)
    begin, end = (first_packet(frame) - before for frame in (chunk.first, chunk.first + chunk.keep))
    return list(islice(packets(path), begin, end))
