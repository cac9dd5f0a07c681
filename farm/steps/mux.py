"""The step `mux`: the finished video with its original audio, a thumbnail and a manifest."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from shutil import copyfileobj
from typing import Any, Literal

from farm.engine.step_context import StepContext
from farm.job import Artifact, ResolvedRequest, Result, Video
from farm.media.mux import mux as join
from farm.media.video import read_frame, write_thumbnail
from farm.model.weights.fingerprint import joined
from farm.net.guard import redact_url
from farm.registry.outputs import ChunkOutput, MuxOutput
from farm.route import steps_of_job
from farm.steps.output import file_stem, inline_video, open_destination, publish_artifact
from farm.store import Store, keys

ArtifactType = Literal["video", "thumbnail", "manifest"]
MIMES: dict[ArtifactType, str] = {
    "video": "video/mp4",
    "thumbnail": "image/jpeg",
    "manifest": "application/json",
}


def mux(ctx: StepContext) -> MuxOutput:
    """Stores the finished video, and copies it to the destination that the request names."""
    with ctx.timed("mux"):
        files = _files(ctx)
    ctx.raise_if_draining()
    ctx.report("muxing_ok", another_follows=True)
    ctx.report("upload_started")
    with ctx.timed("upload"):
        stored = {kind: ctx.put(path, path.name) for kind, path in files.items()}
        base64 = inline_video(ctx, stored["video"], files["video"])
        destination = open_destination(ctx.request.output_config, ctx.settings)
        artifacts = [
            _artifact(ctx, destination, kind, stored[kind], path) for kind, path in files.items()
        ]
    result = _result(ctx, artifacts, base64)
    manifest = ctx.scratch / "manifest.json"
    manifest.write_text(result.model_dump_json(indent=2, exclude={"video": {"base64"}}))
    manifest_key = ctx.put(manifest, manifest.name)
    artifacts.append(_artifact(ctx, destination, "manifest", manifest_key, manifest))
    ctx.report("upload_ok", another_follows=True)
    result = result.model_copy(update={"artifacts": tuple(artifacts)})
    return MuxOutput(result=result, video_key=stored["video"])


def _files(ctx: StepContext) -> dict[ArtifactType, Path]:
    embedded = ctx.embed_output
    ctx.read_ahead(steps_of_job(embedded.chunks)[:-1])
    outputs = [ctx.chunk_output(chunk) for chunk in range(embedded.chunks)]
    segments = [_playable(ctx, output, f"{chunk:04d}") for chunk, output in enumerate(outputs)]
    audio = ctx.fetch(embedded.audio_key, "audio")
    video = ctx.scratch / f"{file_stem(ctx)}.mp4"
    thumbnail = ctx.scratch / keys.THUMBNAIL
    join(segments, audio, video, frames=embedded.frames)
    write_thumbnail(thumbnail, read_frame(video, 0))
    return {"video": video, "thumbnail": thumbnail}


def _playable(ctx: StepContext, output: ChunkOutput, name: str) -> Path:
    """A chunk as a file of its own: a segment is playable only after its initialisation section."""
    path = ctx.scratch / f"{name}.mp4"
    with path.open("wb") as whole:
        for key in (output.init_key, output.segment_key):
            fetched = ctx.fetch(key, f"{name}.part")
            with fetched.open("rb") as part:
                copyfileobj(part, whole)
            fetched.unlink()
    return path


def _artifact(
    ctx: StepContext, destination: Store | None, kind: ArtifactType, key: str, path: Path
) -> Artifact:
    url = publish_artifact(ctx, destination, key, path)
    return Artifact(type=kind, url=url, mime=MIMES[kind], bytes=path.stat().st_size)


def _result(ctx: StepContext, artifacts: list[Artifact], base64: str | None) -> Result:
    video, thumbnail = artifacts
    return Result(
        job_id=ctx.job_id,
        status="success",
        video=Video(url=video.url, bytes=video.bytes, thumbnail_url=thumbnail.url, base64=base64),
        artifacts=tuple(artifacts),
        timings=_timings(ctx),
        params=_params(ctx),
        warnings=ctx.embed_output.warnings,
    )


def _timings(ctx: StepContext) -> dict[str, int]:
    """Milliseconds: the sums over all steps, the time in queues, and the whole since submission."""
    steps = steps_of_job(ctx.embed_output.chunks)
    total = Counter[str]()
    for step in steps:
        total.update(ctx.timings if step == ctx.step else ctx.committed(step).timings)
    waited_s = ctx.registry.steps.waited_s(ctx.job_id, [step.id for step in steps])
    elapsed_s = ctx.registry.now() - ctx.registry.jobs.status(ctx.job_id).created_at
    return {
        "queue_ms": round(1000 * waited_s),
        **total,
        "total_ms": round(1000 * elapsed_s),
    }


def _sources(request: ResolvedRequest) -> dict[str, Any]:
    """Image or video and voices, their URLs without credentials and query."""
    voices = request.cond_audio
    return {
        "cond_video": redact_url(request.cond_video),
        "cond_audio": voices
        and {person: redact_url(source) if source else None for person, source in voices},
    }


def _params(ctx: StepContext) -> dict[str, Any]:
    """Every parameter as it was used, with defaults where the request left it open.

    The receiver of the result may not be the author of the request, so it repeats neither
    signed URLs nor what only the caller should know.
    """
    embedded = ctx.embed_output
    first = ctx.chunk_output(0)
    return {
        **ctx.request.model_dump(mode="json", exclude={"webhook", "idempotency_key"}),
        **_sources(ctx.request),
        **(first.used.model_dump() if first.used else {}),
        "model": ctx.request.model,
        "weights": joined(embedded.weights, first.weights),
        "frames": embedded.frames,
        "chunks": embedded.chunks,
        "cuts": list(embedded.cuts),
    }
