"""The playlist of a job (HLS, RFC 8216): the segments so far, and whether more will come."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial
from math import ceil
from pathlib import Path
from typing import NamedTuple

from farm.engine.context import Context
from farm.engine.objects import sha256_of
from farm.engine.step_context import StepContext
from farm.errors import FarmError, VersionSkew
from farm.logs import log
from farm.plan import FPS
from farm.registry.outputs import ChunkOutput, SegmentLinks, chunks_of
from farm.route import EMBED, Step
from farm.store import integrity, keys

HEAD = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:{longest_s}
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-PLAYLIST-TYPE:EVENT
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-START:TIME-OFFSET=0
"""
"""A player that opens a growing playlist starts at its beginning, not near its end as for a live
broadcast.
"""

END = "#EXT-X-ENDLIST\n"


class StoredSegment(NamedTuple):
    """The keys of a chunk's segment and of its initialisation section, with their links."""

    init_key: str
    segment_key: str
    links: SegmentLinks


def store_segment(ctx: StepContext, init: bytes, segment: bytes) -> StoredSegment:
    """Stores a chunk's segment and the initialisation section that a player reads before it.

    Links are made once: a line of a growing playlist must not change, and a signed URL would.
    """
    init_key = _store_init(ctx, init)
    segment_key = ctx.put(segment, "segment.m4s")
    page = keys.playlist(ctx.job_id)
    links = SegmentLinks(
        init=ctx.store.link(init_key, page=page), segment=ctx.store.link(segment_key, page=page)
    )
    return StoredSegment(init_key, segment_key, links)


def publish(ctx: Context, job_id: str, chunks: int | None) -> bool:
    """Stores the playlist as the registry has the job now; False if it cannot, and the job goes on.

    Raises VersionSkew, for such a job cannot go on.

    It lists committed outputs only, so never two attempts at a chunk. It is written until it equals
    what the registry says: of two concurrent writers, the last one has seen what the other saw.
    With all chunks in it nothing can follow.
    """
    try:
        written = None
        while True:
            segments, is_complete = _segments(ctx, job_id, chunks)
            if not segments:
                return True
            text = _text(ctx, job_id, segments, is_complete=is_complete)
            if text == written:
                return True
            ctx.store.put(keys.playlist(job_id), text.encode())
            if len(segments) == chunks:
                return True
            written = text
    except VersionSkew:
        raise
    except FarmError as error:
        log("playlist_write_failed", job_id=job_id, code=error.code, reason=error.message)
        return False


def mirror(ctx: Context, job_id: str, folder: Path) -> Path | None:
    """Copies the segments so far into a folder, the playlist last; None while there are none.

    Segments that are there already are not fetched again. Raises CorruptObject.
    """
    embedded = ctx.registry.steps.committed(job_id, EMBED.id)
    if embedded is None:
        return None
    segments, is_complete = _segments(ctx, job_id, chunks_of(embedded))
    if not segments:
        return None
    output_of = partial(ctx.registry.steps.committed, job_id)
    local = [_with_local_links(segment) for segment in segments]
    wanted = {link for each in local for link in (each.links.init, each.links.segment)}
    for key in wanted:
        if not (folder / key).is_file():
            _write(folder / key, integrity.get(ctx.store, key, sha256=sha256_of(key, output_of)))
    text = _text(ctx, job_id, local, is_complete=is_complete)
    return _write(folder / "playlist.m3u8", text.encode())


def _with_local_links(output: ChunkOutput) -> ChunkOutput:
    """The output with its keys as links: paths relative to the folder."""
    links = SegmentLinks(init=output.init_key, segment=output.segment_key)
    return output.model_copy(update={"links": links})


def numbered_playlist(
    ctx: Context, job_id: str, chunks: int | None, *, query: str = ""
) -> str | None:
    """The playlist with links that name chunks: `segments/7/segment.m4s`, and `segments/7/init.mp4`
    of the first chunk of those that share one, each with the query; None while there are no
    segments.
    """
    segments, is_complete = _segments(ctx, job_id, chunks)
    if not segments:
        return None
    first: dict[str, int] = {}
    linked = []
    for chunk, output in enumerate(segments):
        init = f"segments/{first.setdefault(output.init_key, chunk)}/init.mp4{query}"
        links = SegmentLinks(init=init, segment=f"segments/{chunk}/segment.m4s{query}")
        linked.append(output.model_copy(update={"links": links}))
    return _text(ctx, job_id, linked, is_complete=is_complete)


def finished_chunks(ctx: Context, job_id: str, chunks: int | None) -> list[ChunkOutput]:
    """The outputs of the chunks up to the first that is missing."""
    segments, _ = _segments(ctx, job_id, chunks)
    return segments


def _segments(ctx: Context, job_id: str, chunks: int | None) -> tuple[list[ChunkOutput], bool]:
    """The outputs of the chunks up to the first that is missing, and whether no more will come."""
    step_ids = [Step("generate", chunk).id for chunk in range(chunks or 0)]
    status, committed = ctx.registry.snapshot(job_id, step_ids)
    segments: list[ChunkOutput] = []
    for each in committed:
        if each is None:
            break
        segments.append(each.output_as(ChunkOutput))
    return segments, len(segments) == chunks or status.ended


def _text(ctx: Context, job_id: str, segments: Sequence[ChunkOutput], *, is_complete: bool) -> str:
    longest_s = ceil(ctx.registry.jobs.request(job_id).frame_num / FPS)
    text = HEAD.format(longest_s=longest_s) + "".join(_lines(segments))
    return text + END if is_complete else text


def _lines(segments: Sequence[ChunkOutput]) -> list[str]:
    lines = []
    init = None
    for output in segments:
        # Another machine's encoder may describe its frames otherwise.
        if output.links.init != init:
            init = output.links.init
            lines.append(f'#EXT-X-MAP:URI="{init}"\n')
        lines.append(f"#EXTINF:{output.frames / FPS:.3f},\n{output.links.segment}\n")
    return lines


def _write(path: Path, content: bytes) -> Path:
    """A file that is complete or absent, even if several processes write it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    part.write_bytes(content)
    return part.replace(path)


def _store_init(ctx: StepContext, init: bytes) -> str:
    """The key of the initialisation section: that of the previous chunk, if it is the same."""
    if ctx.step.chunk:
        before = ctx.chunk_output(ctx.step.chunk - 1).init_key
        if ctx.sha256_of(before) == keys.digest(init):
            return before
    return ctx.put(init, "init.mp4")
