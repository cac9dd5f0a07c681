"""Station `generate`: one chunk of video from the conditions, the voice and the tail of the chunk before."""

from __future__ import annotations

import time
from functools import cache
from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.engine.playlist import watchable
from farm.engine.route import Step
from farm.engine.step_context import StepContext
from farm.job import JobRequest
from farm.logs import log
from farm.media.fragment import fragment
from farm.media.image import read_image
from farm.media.video import read_frame, write_segment
from farm.metrics import add
from farm.model.presets import preset
from farm.plan import FPS, Chunk, Plan, audio_rows
from farm.settings import Settings
from farm.steps import soundtrack
from farm.steps.features import remembered, rows_of
from farm.steps.progress import Progress
from farm.steps.sampling import as_used, sampling, usual_variant, variant

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from farm.model.pipeline import Condition, Pipeline, Tail
    from farm.model.speakers import Box


def generate(ctx: StepContext) -> dict[str, Any]:
    """Store keys of what `watchable` names, of the `tail`, of a picture's `condition`.

    The first chunk's goods tell what was left open as it was `used`, for all of them.
    """
    pipeline = _warm(ctx)
    facts = ctx.output(Step("embed"))
    plan = Plan(facts["frames"], ctx.request.frame_num, ctx.request.motion_frame, tuple(facts["cuts"]))
    chunk = plan.chunk(ctx.step.chunk)
    progress = Progress(ctx, plan.chunks)
    drawn = sampling(ctx.request, pipeline.preset, ctx.settings)
    used = as_used(ctx.request, drawn, ctx.settings, pipeline.attention)
    with ctx.timed("preprocess"):
        condition, condition_key = _condition(ctx, pipeline, chunk)
        text, negative_text = (_text(ctx, pipeline, prompt) for prompt in (ctx.request.prompt, used["negative_prompt"]))
        audio = _audio(ctx, facts, chunk)
    frames, tail = pipeline.chunk(
        chunk,
        condition=condition,
        text=text,
        negative_text=negative_text,
        audio=audio,
        tail=_tail_before(ctx, chunk),
        sampling=drawn,
        report=progress.report,
    )
    ctx.timings.update(progress.timings())
    output = {**_segment(ctx, plan, chunk, frames), "condition": condition_key}
    told = {} if chunk.index else {"used": used}
    return {**output, **told, "tail": None if chunk.last else _save(ctx, tail, "tail.safetensors")}


@cache
def warm_pipeline(settings: Settings) -> Pipeline:
    """The model of this worker, loaded once in the life of its process."""
    from farm.model.checkpoints import ready
    from farm.model.pipeline import load_pipeline

    began = time.monotonic()
    model = preset(settings.preset)
    pipeline = load_pipeline(
        ready(model, settings.weights_folder),
        model,
        _device(settings),
        attention=settings.attention,
        variant=usual_variant(settings),
    )
    took_s = time.monotonic() - began
    add("farm_cold_load_seconds", took_s)
    log(
        "pipeline_loaded",
        lat_ms=round(1000 * took_s),
        preset=model.name,
        device=pipeline.device,
        attention=pipeline.attention,
    )
    return pipeline


def _warm(ctx: StepContext) -> Pipeline:
    """The loaded model as the job wants it; the first chunk of a job tells about the loading."""
    tell = ctx.report if ctx.step.chunk == 0 else _silence
    tell("pipeline_warm_started")
    with ctx.timed("cold_start"):
        import farm.model.pipeline  # noqa: F401
    wanted = variant(ctx.request, ctx.settings)
    with ctx.timed("load"):
        pipeline = warm_pipeline(ctx.settings)
        if pipeline.become(wanted):
            log("model_switched", variant=str(wanted))
    tell("pipeline_warm_ok")
    tell("generation_started")
    return pipeline


def _silence(stage: str) -> None:
    """Tells nothing."""


def _device(settings: Settings) -> str:
    if settings.device != "auto":
        return settings.device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _text(ctx: StepContext, pipeline: Pipeline, prompt: str) -> Tensor:
    """Features [tokens, text_dim] of a prompt, encoded once for all jobs."""
    folder = pipeline.preset.folder(ctx.settings.weights_folder) / "text_encoder"
    key = remembered(ctx, "text", folder, prompt, lambda: pipeline.encode_text(prompt))
    return _load(ctx, key)["features"]


def _condition(ctx: StepContext, pipeline: Pipeline, chunk: Chunk) -> tuple[Condition, str | None]:
    """What the model sees of the source, and its store key if later chunks need it.

    Of a picture it is always the same; of a video it is the frame where the chunk begins.
    """
    from farm.model.pipeline import Condition

    source = ctx.output(Step("download"))
    if source["kind"] == "image" and chunk.index > 0:
        key = ctx.output(Step("generate", 0))["condition"]
        return Condition.from_tensors(_load(ctx, key)), key
    frame = source_frame(ctx.fetch(source["visual"], "visual"), source["kind"], chunk)
    request = ctx.request
    condition = pipeline.condition(frame, size=request.size, frame_num=request.frame_num, boxes=boxes(request))
    return condition, _save(ctx, condition, "condition.safetensors") if source["kind"] == "image" else None


def boxes(request: JobRequest) -> list[Box]:
    """Two speakers' boxes in the model's order, out to whole pixels; the place of a single one plays no part."""
    if request.bbox is None or request.bbox.person2 is None:
        return []
    corners = (request.bbox.person1, request.bbox.person2)
    return [(floor(top), floor(left), ceil(bottom), ceil(right)) for left, top, right, bottom in corners]


def source_frame(path: Path, kind: str, chunk: Chunk) -> NDArray[np.uint8]:
    """What a chunk is drawn from: the picture, or what the video shows when the chunk begins, whatever its fps."""
    return read_image(path) if kind == "image" else read_frame(path, chunk.start / FPS)


def _audio(ctx: StepContext, facts: dict[str, Any], chunk: Chunk) -> Tensor:
    """The rows [S, frame_num + 4, layers, dim] that the chunk hears."""
    import torch

    rows = audio_rows(chunk, facts["rows"])
    return torch.stack([rows_of(ctx, folder, rows) for folder in facts["embeddings"]])


def _tail_before(ctx: StepContext, chunk: Chunk) -> Tail | None:
    from farm.model.pipeline import Tail

    if chunk.index == 0:
        return None
    tail = Tail.from_tensors(_load(ctx, ctx.output(Step("generate", chunk.index - 1))["tail"]))
    return tail if chunk.overlap else tail.cut()


def _segment(ctx: StepContext, plan: Plan, chunk: Chunk, frames: Tensor) -> dict[str, Any]:
    """The frames with their sound as a player takes them."""
    pictures = ctx.scratch / "pictures.mp4"
    with ctx.timed("encode"):
        write_segment(pictures, _pixels(frames))
        sound = soundtrack.heard(ctx, plan, chunk)
        init, segment = fragment(pictures, sound, index=chunk.index, first=chunk.first)
    return watchable(ctx, init, segment, frames=chunk.keep)


def _pixels(frames: Tensor) -> NDArray[np.uint8]:
    """[3, F, H, W] in [-1, 1] to uint8 [F, H, W, 3], cut off and not rounded, as the original writes them."""
    import torch

    pixels: NDArray[np.uint8] = ((frames + 1) * 127.5).clamp(0, 255).to(torch.uint8).permute(1, 2, 3, 0).numpy()
    return pixels


def _save(ctx: StepContext, tensors: Condition | Tail, name: str) -> str:
    from safetensors.torch import save

    return ctx.put(save(tensors.to_tensors()), name)


def _load(ctx: StepContext, key: str) -> dict[str, Tensor]:
    from safetensors.torch import load

    return load(ctx.store.get(key))
