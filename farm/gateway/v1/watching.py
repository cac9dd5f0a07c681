"""What is watched of a job: its video, and until that is there the playlist and its segments."""

from __future__ import annotations

import re
from functools import partial

from farm.engine.advance import chunk_count
from farm.engine.context import Context
from farm.engine.objects import sha256_of
from farm.engine.playlist import numbered_playlist
from farm.gateway.refusal import Refusal, refuse
from farm.gateway.v1.media import Media
from farm.gateway.video import Video
from farm.registry.outputs import ChunkOutput, Committed, MuxOutput
from farm.route import MUX, Step
from farm.store import keys

CHUNK = re.compile("0|[1-9][0-9]{0,4}")
SEGMENT, INIT = "segment.m4s", "init.mp4"
SOON = {"Retry-After": "2"}


def content(video: Video) -> Media:
    """The finished video; Refusal 409 for a job without one."""
    committed = _finished(video, "content")
    key = committed.output_as(MuxOutput).video_key
    return _media(video.ctx, key, video.status.job_id, "content")


def thumbnail(video: Video) -> Media:
    """The first frame as JPEG; Refusal 409 for a job without a video."""
    committed = _finished(video, "thumbnail")
    job_id = video.status.job_id
    key = keys.attempt(job_id, MUX.id, committed.attempt_id, keys.THUMBNAIL)
    return _media(video.ctx, key, job_id, "thumbnail", "image/jpeg")


def _finished(video: Video, what: str) -> Committed:
    status = video.status
    if status.state != "success":
        raise refuse(
            409,
            f"{what}: the job is {status.state}; allowed: one that is success",
            None if status.ended else SOON,
        )
    committed = video.ctx.registry.steps.committed(status.job_id, MUX.id)
    if committed is None:
        raise _gone(what)
    return committed


def playlist(video: Video, query: str) -> str:
    """The segments so far, whose links have a query; Refusal 409 before the first one."""
    job_id = video.status.job_id
    text = numbered_playlist(video.ctx, job_id, chunk_count(video.ctx, job_id), query=query)
    if text is None:
        allowed = "a job whose first chunk is finished"
        raise refuse(409, f"playlist: the job is {video.status.state}; allowed: {allowed}", SOON)
    return text


def segment(video: Video, chunk: str, name: str) -> Media:
    """A file that the playlist names; Refusal 404 for any other."""
    job_id = video.status.job_id
    committed = None
    if CHUNK.fullmatch(chunk) and name in (SEGMENT, INIT):
        step_id = Step("generate", int(chunk)).id
        committed = video.ctx.registry.steps.committed(job_id, step_id)
    if committed is None:
        shown = f"{chunk}/{name}"[:80]
        raise refuse(404, f"segment: got {shown!r}; allowed: those of the playlist")
    output = committed.output_as(ChunkOutput)
    key = output.segment_key if name == SEGMENT else output.init_key
    return _media(video.ctx, key, job_id, "segment")


def _media(ctx: Context, key: str, job_id: str, what: str, mime: str = "video/mp4") -> Media:
    size = ctx.store.size(key)
    if size is None:
        raise _gone(what)
    sha256 = sha256_of(key, partial(ctx.registry.steps.committed, job_id))
    return Media(ctx.store, key, size, sha256, mime)


def _gone(what: str) -> Refusal:
    return refuse(404, f"{what}: the farm does not keep it any more")
