"""The step `generate`: one chunk of video from the condition, the speech and the previous tail."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import ceil, floor
from typing import TYPE_CHECKING, TypeVar

from farm.engine.playlist import StoredSegment, store_segment
from farm.engine.step_context import StepContext
from farm.errors import PipelineLoadFailed
from farm.job import ResolvedRequest
from farm.logs import log
from farm.media.encoder import Encoder
from farm.media.fragment import mux_segment
from farm.media.image import read_image
from farm.metrics import add
from farm.model.weights.fingerprint import Digests
from farm.plan import Chunk, Plan, audio_rows
from farm.presets import Preset, preset
from farm.registry.outputs import ChunkOutput, EmbedOutput
from farm.settings import Settings
from farm.steps.chunk_objects import condition_key, previous_tail_key, source_image
from farm.steps.features import cache_features, rows_of
from farm.steps.gpus import device_of, gpus_fault
from farm.steps.progress import Progress
from farm.steps.sampling import default_variant, sampling, settled, used_parameters, variant
from farm.steps.served import check_served
from farm.steps.soundtrack import packets_of_chunk
from farm.steps.uploads import Uploads
from farm.steps.weights import check_weights

if TYPE_CHECKING:
    from torch import Tensor

    from farm.model.denoise import Sampling
    from farm.model.pipeline import Condition, Pipeline, Tail, TensorRecord
    from farm.model.speakers import Box
    from farm.model.variant import Variant

Record = TypeVar("Record", bound="TensorRecord")


def generate(ctx: StepContext) -> ChunkOutput:
    """Stores a playable segment, and the tail for the next chunk.

    Frames are encoded while later ones are decoded, and what is finished is stored meanwhile.
    """
    check_served(ctx)
    request = settled(ctx)
    wanted = variant(request, ctx.settings)
    pipeline = _pipeline_for(ctx, wanted)
    embedded = ctx.embed_output
    plan = request.plan(embedded.frames, embedded.cuts)
    chunk = plan.chunk(ctx.step.chunk)
    parameters = sampling(request, ctx.settings)
    kernel = pipeline.switch_attention(exact=request.is_exact, memory=ctx.settings.attention_file)
    used = used_parameters(request, parameters, ctx.settings, kernel)
    with Uploads(ctx) as uploads, Encoder(ctx.scratch / "frames.mp4") as encoder:
        with ctx.timed("preprocess"):
            inputs = _inputs(ctx, uploads, pipeline, plan, chunk, used.negative_prompt)
        tail = _compute(ctx, pipeline, plan, chunk, inputs, parameters, encoder)
        tail_key = None if tail is None else _store_tensors(ctx, uploads, tail, "tail.safetensors")
        stored = _store_segment(ctx, encoder, chunk, inputs.audio_packets)
    return ChunkOutput(
        init_key=stored.init_key,
        segment_key=stored.segment_key,
        links=stored.links,
        frames=chunk.keep,
        condition_key=inputs.condition_key,
        tail_key=tail_key,
        weights=pipeline.fingerprint(wanted),
        used=used if chunk.index == 0 else None,
        on_cpu=pipeline.device == "cpu",
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
    audio_packets: list[bytes]
    """What is heard with the chunk's new frames, as AAC."""


def _inputs(
    ctx: StepContext,
    uploads: Uploads,
    pipeline: Pipeline,
    plan: Plan,
    chunk: Chunk,
    negative_prompt: str | None,
) -> _Inputs:
    condition, condition_key = _condition(ctx, uploads, pipeline, chunk)
    negative_text = None
    if negative_prompt is not None:
        negative_text = _text_features(ctx, pipeline, negative_prompt)
    return _Inputs(
        condition=condition,
        condition_key=condition_key,
        text=_text_features(ctx, pipeline, ctx.request.prompt),
        negative_text=negative_text,
        audio=_audio_rows(ctx, ctx.embed_output, chunk),
        audio_packets=packets_of_chunk(ctx, plan, chunk),
    )


def _compute(
    ctx: StepContext,
    pipeline: Pipeline,
    plan: Plan,
    chunk: Chunk,
    inputs: _Inputs,
    parameters: Sampling,
    encoder: Encoder,
) -> Tail | None:
    """The chunk's tail, None of the last; passes its frames to the encoder."""
    progress = Progress(ctx, plan.chunks)
    _, tail = pipeline.chunk(
        chunk,
        condition=inputs.condition,
        text=inputs.text,
        negative_text=inputs.negative_text,
        audio=inputs.audio,
        tail=_previous_tail(ctx, chunk),
        sampling=parameters,
        report=progress.report,
        show=partial(_encode, encoder),
    )
    ctx.timings.update(progress.timings())
    return tail


def _store_segment(
    ctx: StepContext, encoder: Encoder, chunk: Chunk, audio_packets: list[bytes]
) -> StoredSegment:
    """The frames with their audio, once the last one is encoded."""
    with ctx.timed("encode"):
        encoder.finish()
        init, segment = mux_segment(
            encoder.path, audio_packets, index=chunk.index, first=chunk.first
        )
    return store_segment(ctx, init, segment)


def _encode(encoder: Encoder, pieces: Iterator[Tensor]) -> None:
    """Passes the frames [3, F, H, W] in [-1, 1] of a chunk to the encoder."""
    encoder.begin()
    from farm.model.pixels import to_host

    for frames in pieces:
        encoder.write(to_host(frames))


_loaded: dict[tuple[Settings, str], Pipeline] = {}


def warm_pipeline(settings: Settings, model: str) -> Pipeline:
    """A model of this worker, in memory until its process needs another one."""
    if (settings, model) not in _loaded:
        unload_pipeline()  # one fits on a device; two may not
        _loaded[settings, model] = _load(settings, preset(model))
    return _loaded[settings, model]


def unload_pipeline() -> None:
    """Frees the memory of the loaded model, and ends the processes on further cards."""
    for pipeline in _loaded.values():
        pipeline.close()
    _loaded.clear()
    gc.collect()


def _load(settings: Settings, model: Preset) -> Pipeline:
    from farm.model.checkpoints import checkpoint_folder
    from farm.model.pipeline import load_pipeline

    if fault := gpus_fault(settings, model):
        raise PipelineLoadFailed(fault)
    start = time.monotonic()
    pipeline = load_pipeline(
        checkpoint_folder(model, settings.weights_folder),
        model,
        device_of(settings),
        attention=settings.attention,
        attention_memory=settings.attention_file,
        fold_audio=settings.fold_audio,
        variant=default_variant(settings),
        digests=Digests(settings.digests_folder),
        gpus=settings.gpus,
    )
    took_s = time.monotonic() - start
    add("farm_model_load_seconds", took_s)
    log(
        "pipeline_loaded",
        lat_ms=round(1000 * took_s),
        preset=model.name,
        device=pipeline.device,
        gpus=settings.gpus,
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
        is_loaded = (ctx.settings, ctx.request.model) in _loaded
        ctx.report("pipeline_warm_started", another_follows=is_loaded)
    with ctx.timed("cold_start"):
        import farm.model.pipeline  # noqa: F401
    with ctx.timed("load"):
        pipeline = warm_pipeline(ctx.settings, ctx.request.model)
        check_weights(ctx, pipeline.fingerprint(wanted))
        if pipeline.switch_variant(wanted):
            log("model_switched", variant=str(wanted))
    if is_first:
        ctx.report("pipeline_warm_ok", another_follows=True)
        ctx.report("generation_started")
    return pipeline


def _text_features(ctx: StepContext, pipeline: Pipeline, prompt: str) -> Tensor:
    """Features [tokens, text_dim] of a prompt, encoded once for all jobs."""
    encoder = pipeline.text_fingerprint
    return cache_features(ctx, "text", encoder, prompt, lambda: pipeline.encode_text(prompt))


def _condition(
    ctx: StepContext, uploads: Uploads, pipeline: Pipeline, chunk: Chunk
) -> tuple[Condition, str | None]:
    """What the model sees of the source, and its key in the store if all chunks share it.

    The condition of an image is always the same; that of a video is computed from the frame at
    which the chunk begins.
    """
    from farm.model.pipeline import Condition

    key = condition_key(ctx, chunk)
    if key is not None:
        return _load_tensors(ctx, key, Condition), key
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
    return condition, _store_tensors(ctx, uploads, condition, "condition.safetensors")


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
    tail = _load_tensors(ctx, key, Tail)
    return tail.at_cut() if chunk.begins_scene else tail


def _store_tensors(ctx: StepContext, uploads: Uploads, record: Condition | Tail, name: str) -> str:
    """The key under which a record is stored; it stays in memory for the next chunk."""
    from safetensors.torch import save

    tensors = record.to_tensors()
    key = uploads.put(lambda: save(tensors), name)
    ctx.kept.put(key, type(record).from_tensors(tensors))
    return key


def _load_tensors(ctx: StepContext, key: str, kind: type[Record]) -> Record:
    from safetensors.torch import load

    return ctx.kept.get(key, lambda: kind.from_tensors(load(ctx.get(key))))
