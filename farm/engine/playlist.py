"""A job's playlist (HLS, RFC 8216): what can be watched of it so far, and whether more will come."""

from __future__ import annotations

import secrets
from itertools import takewhile
from math import ceil
from pathlib import Path
from typing import Any

from farm.engine.context import Context
from farm.engine.route import Step
from farm.engine.step_context import StepContext
from farm.errors import FarmError
from farm.logs import log
from farm.plan import FPS
from farm.store import keys

HEAD = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:{longest_s}
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-PLAYLIST-TYPE:EVENT
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-START:TIME-OFFSET=0
"""
"""Who opens it while it grows starts at the beginning, not near its end as with a live broadcast."""

END = "#EXT-X-ENDLIST\n"


def watchable(ctx: StepContext, init: bytes, segment: bytes, *, frames: int) -> dict[str, Any]:
    """Store keys of a chunk's `segment` and of the `init` that a player needs before it, their `links`, its `frames`.

    Links are made once, because a line of a growing playlist must not change, and a signed one would.
    """
    stored = {"init": _init(ctx, init), "segment": ctx.put(segment, "segment.m4s")}
    links = {name: ctx.store.link(key, page=keys.playlist(ctx.job_id)) for name, key in stored.items()}
    return {**stored, "links": links, "frames": frames}


def publish(ctx: Context, job_id: str, chunks: int) -> bool:
    """Lays the playlist into the store as the registry has the job now; False if it cannot, for the job goes on.

    It lists products alone, so never two attempts at a chunk. It is written until it says what the registry says: of
    two who write at the same time, the last one has seen what the other saw.
    """
    try:
        written = None
        while (text := playlist(ctx, job_id, chunks)) not in (None, written):
            ctx.store.put(keys.playlist(job_id), text.encode())
            written = text
    except FarmError as error:
        log("playlist_not_written", job_id=job_id, code=error.code, reason=error.message)
        return False
    return True


def playlist(ctx: Context, job_id: str, chunks: int) -> str | None:
    """The text; None as long as there is nothing to watch."""
    made, closed = _made(ctx, job_id, chunks)
    return _text(ctx, job_id, made, closed=closed) if made else None


def mirror(ctx: Context, job_id: str, folder: Path) -> Path | None:
    """Lays what can be watched so far into a folder of the job's own, the playlist last; None if there is nothing.

    What lies there already is not fetched again.
    """
    embedded = ctx.registry.output(job_id, "embed")
    made, closed = _made(ctx, job_id, embedded["chunks"]) if embedded else ([], False)
    if not made:
        return None
    own = [{**output, "links": {name: output[name] for name in ("init", "segment")}} for output in made]
    for key in {key for output in own for key in output["links"].values()}:
        if not (folder / key).is_file():
            _write(folder / key, ctx.store.get(key))
    return _write(folder / "playlist.m3u8", _text(ctx, job_id, own, closed=closed).encode())


def _made(ctx: Context, job_id: str, chunks: int) -> tuple[list[dict[str, Any]], bool]:
    """The goods of the chunks up to the first that is missing, and whether no more will come."""
    status, step_ids = ctx.registry.look(job_id, [Step("generate", chunk).id for chunk in range(chunks)])
    made = [output for output in takewhile(lambda output: output is not None, step_ids) if output]
    return made, len(made) == chunks or status.ended


def _text(ctx: Context, job_id: str, made: list[dict[str, Any]], *, closed: bool) -> str:
    head = HEAD.format(longest_s=ceil(ctx.registry.request(job_id).frame_num / FPS))
    return head + "".join(_lines(made)) + (END if closed else "")


def _write(path: Path, content: bytes) -> Path:
    """A file that is complete or not there, however many write it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    part.write_bytes(content)
    return part.replace(path)


def _init(ctx: StepContext, init: bytes) -> str:
    """The key of what a player reads before the segments: that of the chunk before, if its is the same."""
    if ctx.step.chunk:
        before: str = ctx.output(Step("generate", ctx.step.chunk - 1))["init"]
        if ctx.store.get(before) == init:
            return before
    return ctx.put(init, "init.mp4")


def _lines(made: list[dict[str, Any]]) -> list[str]:
    lines, init = [], None
    for output in made:
        links = output["links"]
        if links["init"] != init:  # another machine's encoder may describe its pictures in another way
            init = links["init"]
            lines.append(f'#EXT-X-MAP:URI="{init}"\n')
        lines.append(f"#EXTINF:{output['frames'] / FPS:.3f},\n{links['segment']}\n")
    return lines
