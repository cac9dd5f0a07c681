"""Station `mux`: the finished video with its original sound, a thumbnail and a manifest."""

from __future__ import annotations

from pathlib import Path
from shutil import copyfileobj
from typing import Any, Literal

from farm.engine.route import FIRST, Step, following
from farm.engine.step_context import Work
from farm.job import Artifact, Result, Video
from farm.media.mux import mux as join
from farm.media.video import read_frame, thumbnail
from farm.steps.output import carried, handed_out, open_outlet, stem
from farm.store import Store

ArtifactType = Literal["video", "thumbnail", "manifest"]
MIMES: dict[ArtifactType, str] = {"video": "video/mp4", "thumbnail": "image/jpeg", "manifest": "application/json"}


def mux(work: Work) -> dict[str, Any]:
    """`result`, as the contract describes it, and the store key of the `video`."""
    work.report("muxing_started")
    with work.timed("mux"):
        files = _files(work)
    work.report("muxing_ok")
    work.make_way()
    work.report("upload_started")
    with work.timed("upload"):
        stored = {kind: work.put(path, path.name) for kind, path in files.items()}
        inside = carried(work, stored["video"], files["video"])
        outlet = open_outlet(work.request.output_config, work.settings)
        artifacts = [_artifact(work, outlet, kind, stored[kind], path) for kind, path in files.items()]
    result = _result(work, artifacts, inside)
    manifest = work.scratch / "manifest.json"
    manifest.write_text(result.model_dump_json(indent=2, exclude={"video": {"base64"}}))
    listed = _artifact(work, outlet, "manifest", work.put(manifest, manifest.name), manifest)
    work.report("upload_ok")
    result = result.model_copy(update={"artifacts": (*artifacts, listed)})
    return {"result": result.model_dump(mode="json"), "video": stored["video"]}


def _files(work: Work) -> dict[ArtifactType, Path]:
    facts = work.goods(Step("embed"))
    chunks = [work.goods(Step("generate", chunk)) for chunk in range(facts["chunks"])]
    segments = [_playable(work, goods, f"{index:04d}") for index, goods in enumerate(chunks)]
    sound = work.fetch(facts["sound"], "sound")
    video, picture = work.scratch / f"{stem(work)}.mp4", work.scratch / "thumbnail.jpg"
    join(segments, sound, video, frames=facts["frames"])
    thumbnail(picture, read_frame(video, 0))
    return {"video": video, "thumbnail": picture}


def _playable(work: Work, goods: dict[str, Any], name: str) -> Path:
    """A chunk as a file of its own: a segment plays only behind what tells a player how."""
    path = work.scratch / f"{name}.mp4"
    with path.open("wb") as whole:
        for part in ("init", "segment"):
            fetched = work.fetch(goods[part], f"{name}.{part}")
            with fetched.open("rb") as file:
                copyfileobj(file, whole)
            fetched.unlink()
    return path


def _artifact(work: Work, outlet: Store | None, kind: ArtifactType, key: str, path: Path) -> Artifact:
    return Artifact(type=kind, url=handed_out(work, outlet, key, path), mime=MIMES[kind], bytes=path.stat().st_size)


def _result(work: Work, artifacts: list[Artifact], inside: str | None) -> Result:
    video, picture = artifacts
    return Result(
        job_id=work.job_id,
        status="success",
        video=Video(url=video.url, bytes=video.bytes, thumbnail_url=picture.url, base64=inside),
        artifacts=tuple(artifacts),
        timings=_timings(work),
        params=_params(work),
        warnings=tuple(work.goods(Step("embed"))["warnings"]),
    )


def _timings(work: Work) -> dict[str, int]:
    """The sums over all steps, how long their messages waited, and the whole since submission."""
    registry, total, chunks = work.place.registry, {"queue_ms": 0}, work.goods(Step("embed"))["chunks"]
    step: Step | None = FIRST
    while step is not None:
        made = work.timings if step == work.step else work.goods(step)["timings"]
        for name, took in made.items():
            total[name] = total.get(name, 0) + took
        total["queue_ms"] += round(1000 * registry.waited_s(work.job_id, step.product))
        step = following(step, chunks=chunks)
    created = registry.job(work.job_id).created_at
    return {**total, "total_ms": round(1000 * (registry.ledger.now() - created))}


def _params(work: Work) -> dict[str, Any]:
    """Every parameter as it was used, with the model's own values where the request left them open."""
    facts, used = work.goods(Step("embed")), work.goods(Step("generate"))["used"]
    plan = {"model": work.settings.preset, **{name: facts[name] for name in ("frames", "chunks", "cuts")}}
    return {**work.request.model_dump(mode="json"), **used, **plan}
