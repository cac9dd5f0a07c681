"""The step `generate`: one chunk of video from the condition, the speech and the previous tail."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from math import ceil, floor
from typing import TYPE_CHECKING

from farm.engine.playlist import store_segment
from farm.engine.step_context import StepContext
from farm.job import ResolvedRequest
from farm.logs import log
from farm.media.fragment import mux_segment
from farm.media.image import read_image
from farm.media.video import encode_video
from farm.metrics import add
from farm.model.weights.fingerprint import Digests
from farm.plan import Chunk, Plan, audio_rows
from farm.presets import Preset, preset
from farm.registry.outputs import ChunkOutput, EmbedOutput
from farm.settings import Settings
from farm.steps.chunk_objects import condition_key, previous_tail_key, source_image
from farm.steps.features import cache_features, rows_of
from farm.steps.progress import Progress
from farm.steps.sampling import default_variant, sampling, used_parameters, variant
from farm.steps.served import check_served
from farm.steps.soundtrack import packets_of_chunk
from farm.steps.weights import check_weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from farm.model.pipeline import Condition, Pipeline, Sampling, Tail
    from farm.model.speakers import Box
    from farm.model.variant import Variant


def generate(ctx: StepContext) -> ChunkOutput:
    """Stores a playable segment, and the tail for the next chunk."""
    check_served(ctx)
    request = ctx.request
    wanted = variant(request, ctx.settings)
    pipeline = _pipeline_for(ctx, wanted)
    embedded = ctx.embed_output
    plan = request.plan(embedded.frames, embedded.cuts)
    chunk = plan.chunk(ctx.step.chunk)
    parameters = sampling(request, ctx.settings)
    used = used_parameters(request, parameters, ctx.settings, pipeline.attention)
    with ctx.timed("preprocess"):
        inputs = _inputs(ctx, pipeline, embedded, chunk, used.negative_prompt)
    frames, tail = _compute(ctx, pipeline, plan, chunk, inputs, parameters)
    init, segment = _encode_segment(ctx, plan, chunk, frames)
    stored = store_segment(ctx, init, segment)
    return ChunkOutput(
        init_key=stored.init_key,
        segment_key=stored.segment_key,
        links=stored.links,
        frames=chunk.keep,
        condition_key=inputs.condition_key,
        tail_key=None if chunk.last else _store_tensors(ctx, tail, "tail.safetensors"),
        weights=pipeline.fingerprint(wanted),
        used=used if chunk.index == 0 else None,
    )


@dataclass(frozen=True)
class _Inputs:
    """What the model receives for a chunk, apart from the previous tail."""

    condition: Condition
    condition_key: str | None
    """The condition's key in the store if all chunks share it."""
    text: Tensor
    negative_text: Tensor | None
    """Features [tokens, text_dim] of each prompt, as far as the guidance reads it."""
    audio: Tensor
    """[S, frame_num + 4, layers, dim]"""


def _inputs(
    ctx: StepContext,
    pipeline: Pipeline,
    embedded: EmbedOutput,
    chunk: Chunk,
    negative_prompt: str | None,
) -> _Inputs:
    condition, condition_key = _condition(ctx, pipeline, chunk)
    negative_text = None
    if negative_prompt is not None:
        negative_text = _text_features(ctx, pipeline, negative_prompt)
    return _Inputs(
        condition=condition,
        condition_key=condition_key,
        text=_text_features(ctx, pipeline, ctx.request.prompt),
        negative_text=negative_text,
        audio=_audio_rows(ctx, embedded, chunk),
    )


def _compute(
    ctx: StepContext,
    pipeline: Pipeline,
    plan: Plan,
    chunk: Chunk,
    inputs: _Inputs,
    parameters: Sampling,
) -> tuple[Tensor, Tail]:
    """The chunk's new frames [3, keep, H, W] in [-1, 1], and its tail; reports the progress."""
    progress = Progress(ctx, plan.chunks)
    computed = pipeline.chunk(
        chunk,
        condition=inputs.condition,
        text=inputs.text,
        negative_text=inputs.negative_text,
        audio=inputs.audio,
        tail=_previous_tail(ctx, chunk),
        sampling=parameters,
        report=progress.report,
    )
    ctx.timings.update(progress.timings())
    return computed


_loaded: dict[tuple[Settings, str], Pipeline] = {}


def warm_pipeline(settings: Settings, model: str) -> Pipeline:
    """A model of this worker, in memory until its process needs another one."""
    if (settings, model) not in _loaded:
        unload_pipeline()  # one fits on a device; two may not
        _loaded[settings, model] = _load(settings, preset(model))
    return _loaded[settings, model]


def unload_pipeline() -> None:
    """Frees the memory of the loaded model."""
    _loaded.clear()
    gc.collect()


def _load(settings: Settings, model: Preset) -> Pipeline:
    from farm.model.checkpoints import checkpoint_folder
    from farm.model.pipeline import load_pipeline

    start = time.monotonic()
    pipeline = load_pipeline(
        checkpoint_folder(model, settings.weights_folder),
        model,
        _device(settings),
        attention=settings.attention,
        attention_memory=settings.attention_file,
        fold_audio=settings.fold_audio,
        variant=default_variant(settings),
        digests=Digests(settings.digests_folder),
    )
    took_s = time.monotonic() - start
    add("farm_model_load_seconds", took_s)
    log(
        "pipeline_loaded",
        lat_ms=round(1000 * took_s),
        preset=model.name,
        device=pipeline.device,
        attention=pipeline.attention,
        weights=pipeline.base_fingerprint,
    )
    return pipeline


def _pipeline_for(ctx: StepContext, wanted: Variant) -> Pipeline:
    """The loaded model in the variant of the job; the first chunk of a job reports the loading.

    Raises as `check_weights` before anything is switched.
    """
    is_first = ctx.step.chunk == 0
    if is_first:
        ctx.report("pipeline_warm_started")
    with ctx.timed("cold_start"):
        import farm.model.pipeline  # noqa: F401
    with ctx.timed("load"):
        pipeline = warm_pipeline(ctx.settings, ctx.request.model)
        check_weights(ctx, pipeline.fingerprint(wanted))
        if pipeline.switch_variant(wanted):
            log("model_switched", variant=str(wanted))
    if is_first:
        ctx.report("pipeline_warm_ok")
        ctx.report("generation_started")
    return pipeline


def _device(settings: Settings) -> str:
    if settings.device != "auto":
        return settings.device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _text_features(ctx: StepContext, pipeline: Pipeline, prompt: str) -> Tensor:
    """Features [tokens, text_dim] of a prompt, encoded once for all jobs."""
    encoder = pipeline.text_fingerprint
    return cache_features(ctx, "text", encoder, prompt, lambda: pipeline.encode_text(prompt))


def _condition(ctx: StepContext, pipeline: Pipeline, chunk: Chunk) -> tuple[Condition, str | None]:
    """What the model sees of the source, and its key in the store if all chunks share it.

    The condition of an image is always the same; that of a video is computed from the frame at
    which the chunk begins.
    """
    from farm.model.pipeline import Condition

    key = condition_key(ctx, chunk)
    if key is not None:
        return Condition.from_tensors(_load_tensors(ctx, key)), key
    request = ctx.request
    source = source_image(ctx, chunk)
    condition = pipeline.condition(
        read_image(ctx.fetch(source.key, "image.png")),
        size=request.size,
        frame_num=request.frame_num,
        boxes=boxes(request, source.scale),
    )
    if ctx.download_output.visual_kind == "video":
        return condition, None
    return condition, _store_tensors(ctx, condition, "condition.safetensors")


def boxes(request: ResolvedRequest, scale: float) -> list[Box]:
    """Two speakers' boxes in the model's order, rounded outwards; empty for one speaker.

    In pixels of an image that has `scale` pixels for each of the source, along a side.
    """
    if request.bbox is None or request.bbox.person2 is None:
        return []
    corners = (request.bbox.person1, request.bbox.person2)
    return [
        (
            floor(top * scale),
            floor(left * scale),
            ceil(bottom * scale),
            ceil(right * scale),
        )
        for left, top, right, bottom in corners
    ]


def _audio_rows(ctx: StepContext, embedded: EmbedOutput, chunk: Chunk) -> Tensor:
    """The rows [S, frame_num + 4, layers, dim] of each speaker's embedding for a chunk."""
    import torch

    rows = audio_rows(chunk, embedded.rows)
    return torch.stack([rows_of(ctx, prefix, rows) for prefix in embedded.embedding_prefixes])


def _previous_tail(ctx: StepContext, chunk: Chunk) -> Tail | None:
    from farm.model.pipeline import Tail

    key = previous_tail_key(ctx, chunk)
    if key is None:
        return None
    tail = Tail.from_tensors(_load_tensors(ctx, key))
    return tail.at_cut() if chunk.begins_scene else tail


def _encode_segment(
    ctx: StepContext, plan: Plan, chunk: Chunk, frames: Tensor
) -> tuple[bytes, bytes]:
    """The frames with their audio, as initialisation section and segment (fragmented MP4)."""
    video = ctx.scratch / "frames.mp4"
    with ctx.timed("encode"):
        encode_video(video, _pixels(frames))
        audio = packets_of_chunk(ctx, plan, chunk)
        return mux_segment(video, audio, index=chunk.index, first=chunk.first)


def _pixels(frames: Tensor) -> NDArray[np.uint8]:
    """[3, F, H, W] in [-1, 1] to uint8 [F, H, W, 3], truncated as the original does.

    On the frames' device: bytes are a quarter of what has to leave it.
    """
    import torch

    scaled = ((frames + 1) * 127.5).clamp(0, 255)
    pixels: NDArray[np.uint8] = scaled.to(torch.uint8).permute(1, 2, 3, 0).cpu().numpy()
    return pixels


def _store_tensors(ctx: StepContext, tensors: Condition | Tail, name: str) -> str:
    from safetensors.torch import save

    return ctx.put(save(tensors.to_tensors()), name)


def _load_tensors(ctx: StepContext, key: str) -> dict[str, Tensor]:
    from safetensors.torch import load

    return load(ctx.get(key))
