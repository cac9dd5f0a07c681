"""Station `mux`: the finished video with its original sound, a thumbnail and a manifest."""

from __future__ import annotations

from pathlib import Path
from shutil import copyfileobj
from typing import Any, Literal

from farm.engine.route import FIRST, Step, following
from farm.engine.step_context import StepContext
from farm.job import Artifact, Result, Video
from farm.media.mux import mux as join
from farm.media.video import read_frame, write_thumbnail
from farm.steps.output import carried, handed_out, open_outlet, stem
from farm.store import Store

ArtifactType = Literal["video", "thumbnail", "manifest"]
MIMES: dict[ArtifactType, str] = {"video": "video/mp4", "thumbnail": "image/jpeg", "manifest": "application/json"}


def mux(ctx: StepContext) -> dict[str, Any]:
    """`result`, as the contract describes it, and the store key of the `video`."""
    ctx.report("muxing_started")
    with ctx.timed("mux"):
        files = _files(ctx)
    ctx.report("muxing_ok")
    ctx.make_way()
    ctx.report("upload_started")
    with ctx.timed("upload"):
        stored = {kind: ctx.put(path, path.name) for kind, path in files.items()}
        inside = carried(ctx, stored["video"], files["video"])
        outlet = open_outlet(ctx.request.output_config, ctx.settings)
        artifacts = [_artifact(ctx, outlet, kind, stored[kind], path) for kind, path in files.items()]
    result = _result(ctx, artifacts, inside)
    manifest = ctx.scratch / "manifest.json"
    manifest.write_text(result.model_dump_json(indent=2, exclude={"video": {"base64"}}))
    listed = _artifact(ctx, outlet, "manifest", ctx.put(manifest, manifest.name), manifest)
    ctx.report("upload_ok")
    result = result.model_copy(update={"artifacts": (*artifacts, listed)})
    return {"result": result.model_dump(mode="json"), "video": stored["video"]}


def _files(ctx: StepContext) -> dict[ArtifactType, Path]:
    facts = ctx.output(Step("embed"))
    chunks = [ctx.output(Step("generate", chunk)) for chunk in range(facts["chunks"])]
    segments = [_playable(ctx, output, f"{index:04d}") for index, output in enumerate(chunks)]
    sound = ctx.fetch(facts["sound"], "sound")
    video, picture = ctx.scratch / f"{stem(ctx)}.mp4", ctx.scratch / "thumbnail.jpg"
    join(segments, sound, video, frames=facts["frames"])
    write_thumbnail(picture, read_frame(video, 0))
    return {"video": video, "thumbnail": picture}


def _playable(ctx: StepContext, output: dict[str, Any], name: str) -> Path:
    """A chunk as a file of its own: a segment plays only behind what tells a player how."""
    path = ctx.scratch / f"{name}.mp4"
    with path.open("wb") as whole:
        for part in ("init", "segment"):
            fetched = ctx.fetch(output[part], f"{name}.{part}")
            with fetched.open("rb") as file:
                copyfileobj(file, whole)
            fetched.unlink()
    return path


def _artifact(ctx: StepContext, outlet: Store | None, kind: ArtifactType, key: str, path: Path) -> Artifact:
    return Artifact(type=kind, url=handed_out(ctx, outlet, key, path), mime=MIMES[kind], bytes=path.stat().st_size)


def _result(ctx: StepContext, artifacts: list[Artifact], inside: str | None) -> Result:
    video, picture = artifacts
    return Result(
        job_id=ctx.job_id,
        status="success",
        video=Video(url=video.url, bytes=video.bytes, thumbnail_url=picture.url, base64=inside),
        artifacts=tuple(artifacts),
        timings=_timings(ctx),
        params=_params(ctx),
        warnings=tuple(ctx.output(Step("embed"))["warnings"]),
    )


def _timings(ctx: StepContext) -> dict[str, int]:
    """The sums over all steps, how long their messages waited, and the whole since submission."""
    registry, total, chunks = ctx.registry, {"queue_ms": 0}, ctx.output(Step("embed"))["chunks"]
    step: Step | None = FIRST
    while step is not None:
        made = ctx.timings if step == ctx.step else ctx.output(step)["timings"]
        for name, took in made.items():
            total[name] = total.get(name, 0) + took
        total["queue_ms"] += round(1000 * registry.waited_s(ctx.job_id, step.id))
        step = following(step, chunks=chunks)
    created = registry.job(ctx.job_id).created_at
    return {**total, "total_ms": round(1000 * (registry.ledger.now() - created))}


def _params(ctx: StepContext) -> dict[str, Any]:
    """Every parameter as it was used, with the model's own values where the request left them open."""
    facts, used = ctx.output(Step("embed")), ctx.output(Step("generate"))["used"]
    plan = {"model": ctx.settings.preset, **{name: facts[name] for name in ("frames", "chunks", "cuts")}}
    return {**ctx.request.model_dump(mode="json"), **used, **plan}
