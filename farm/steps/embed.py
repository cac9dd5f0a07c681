"""The step `embed`: embeddings of the speech, the audio, and the plan of the chunks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from farm.engine.step_context import StepContext
from farm.errors import InvalidInput
from farm.estimate import check_cost, estimate
from farm.job import ResolvedRequest
from farm.media import decoder
from farm.media.audio import speech
from farm.media.mix import aligned_tracks, mix
from farm.model.weights.fingerprint import Digests
from farm.plan import (
    FPS,
    LOOK_AHEAD,
    SAMPLES_PER_FRAME,
    SPEECH_RATE,
    Plan,
    frame_count,
    merge_short_scenes,
)
from farm.presets import preset
from farm.registry.outputs import DownloadOutput, EmbedOutput
from farm.settings import Settings
from farm.steps.decoding import sandboxed
from farm.steps.features import cache_rows
from farm.steps.served import check_served
from farm.steps.soundtrack import store_track

if TYPE_CHECKING:
    from farm.model.audio import AudioEncoder

Samples = NDArray[np.float32]


def embed(ctx: StepContext) -> EmbedOutput:
    """Stores what the chunks need of the voices, and plans the chunks."""
    check_served(ctx)
    request = ctx.request
    downloaded = ctx.download_output
    with ctx.timed("embedding"):
        heard = _store_voices(ctx, downloaded)
    frames = heard.frames
    with ctx.timed("preprocess"):
        film = _film(ctx, downloaded)
        cuts = _cuts(ctx, film, frames)
        plan = request.plan(frames, cuts)
        _check_cost(ctx, plan)
        source = _store_source_frames(ctx, film, plan)
        aac_keys = store_track(ctx, ctx.fetch(heard.audio_key, "audio"), plan)
    warnings = (*downloaded.warnings, *_warnings(request, downloaded.visual_seconds, heard))
    ctx.report(
        "embeddings_ok",
        warnings=warnings,
        another_follows=True,
        frames=frames,
        seconds=round(frames / FPS, 2),
        cut_s=round((heard.spoken_frames - frames) / FPS, 2),
        scenes=len(cuts) + 1,
    )
    return EmbedOutput(
        embedding_prefixes=heard.prefixes,
        rows=heard.rows,
        audio_key=heard.audio_key,
        aac_keys=tuple(aac_keys),
        frames=frames,
        chunks=plan.chunks,
        cuts=cuts,
        source_keys=source.keys,
        source_scale=source.scale,
        weights=heard.encoder,
        warnings=warnings,
    )


def _check_cost(ctx: StepContext, plan: Plan) -> None:
    """Raises InvalidInput if the job would cost more than its caller allows."""
    if ctx.request.max_cost is not None:
        pace = ctx.registry.steps.pace(ctx.request.model)
        price_per_h = ctx.settings.gpu_price_per_h
        check_cost(ctx.request, estimate(ctx.request, plan, pace, price_per_h=price_per_h))


class _Heard(NamedTuple):
    """What is stored of the voices, and how long the video will be."""

    prefixes: tuple[str, ...]
    rows: int
    audio_key: str
    spoken_frames: int
    frames: int
    encoder: str
    """Its fingerprint."""


def _store_voices(ctx: StepContext, downloaded: DownloadOutput) -> _Heard:
    """Stores an embedding of each voice, and both recordings in one."""
    request = ctx.request
    paths = [
        ctx.fetch(key, f"cond_audio.person{person}")
        for person, key in enumerate(downloaded.audio_keys, start=1)
    ]
    voices = _voices(ctx, paths)
    spoken_frames = frame_count(len(voices[0]))
    frames = min(spoken_frames, request.max_frames)
    plan = request.plan(frames)
    padded = [_padded(voice, plan) for voice in voices]
    # The last chunk begins before the last frame, and is generated as a whole.
    needed_rows = plan.lead_in + frames + request.frame_num + LOOK_AHEAD
    encoder = _encoder(ctx.settings, request.model)
    return _Heard(
        prefixes=tuple(_cache_embedding(ctx, encoder, voice, needed_rows) for voice in padded),
        rows=frame_count(len(padded[0])),
        audio_key=_store_mix(ctx, paths, frames) if len(paths) > 1 else downloaded.audio_keys[0],
        spoken_frames=spoken_frames,
        frames=frames,
        encoder=encoder.fingerprint,
    )


def _voices(ctx: StepContext, paths: list[Path]) -> Sequence[Samples]:
    """The speech of each speaker: equally loud, of equal length."""
    voices = [
        _voice(path, f"cond_audio.person{person}") for person, path in enumerate(paths, start=1)
    ]
    if len(voices) == 1:
        return voices
    return aligned_tracks(voices[0], voices[1], in_turn=_is_in_turn(ctx))


def _voice(path: Path, field: str) -> Samples:
    samples = speech(path)
    if frame_count(len(samples)) < 1:
        seconds = len(samples) / SPEECH_RATE
        raise InvalidInput(f"{field}: it lasts {seconds:.3f} s; allowed: 0.04 s or more")
    return samples


def _store_mix(ctx: StepContext, paths: list[Path], frames: int) -> str:
    """The key of both speakers' recordings in one, as long as the video."""
    mixed = ctx.scratch / "sound.wav"
    mix(paths[0], paths[1], mixed, in_turn=_is_in_turn(ctx), seconds=frames / FPS)
    return ctx.put(mixed, mixed.name)


def _is_in_turn(ctx: StepContext) -> bool:
    """Whether one recording follows the other; synthesised turns already wait for each other."""
    return ctx.request.tts_audio is None and ctx.request.audio_type == "add"


class _SourceFrames(NamedTuple):
    keys: tuple[str, ...] = ()
    scale: float = 1.0


def _film(ctx: StepContext, downloaded: DownloadOutput) -> Path | None:
    """The source if it is a video, as it came."""
    if downloaded.visual_kind == "image":
        return None
    return ctx.fetch(downloaded.visual_key, "cond_video")


def _cuts(ctx: StepContext, film: Path | None, frames: int) -> tuple[int, ...]:
    """The frames at which new scenes of the source begin, if the request separates them."""
    if film is None or not ctx.request.scene_seg:
        return ()
    cuts = sandboxed(ctx, decoder.find_cuts)(path=film, frames=frames, field="cond_video")
    return merge_short_scenes(cuts, frames)


def _store_source_frames(ctx: StepContext, film: Path | None, plan: Plan) -> _SourceFrames:
    """The frames of a source video at which chunks begin."""
    if film is None:
        return _SourceFrames()
    seconds = [plan.chunk(index).source_frame / FPS for index in range(plan.chunks)]
    folder = ctx.scratch / "source"
    folder.mkdir()
    found = sandboxed(ctx, decoder.read_frames)(
        path=film, folder=folder, seconds=seconds, field="cond_video"
    )
    names = [decoder.frame_name(index) for index in range(found.count)]
    keys = tuple(ctx.put(folder / name, f"source-{name}") for name in names)
    return _SourceFrames(keys, found.scale)


def _padded(samples: Samples, plan: Plan) -> Samples:
    """Speech with the silence that the model hears around it; the video is cut to the speech.

    A plan with a lead-in has silence before it, and after it as much as the last chunk hears. In
    another one speech shorter than a chunk is followed by silence.
    """
    if plan.lead_in == 0:
        return _extended(samples, plan.frame_num * SAMPLES_PER_FRAME)
    spoken = np.pad(samples, (plan.lead_in * SAMPLES_PER_FRAME, 0))
    # One sample more, without which the number of rows could be rounded down.
    return _extended(spoken, plan.heard_rows * SAMPLES_PER_FRAME + 1)


def _extended(samples: Samples, length: int) -> Samples:
    return np.pad(samples, (0, max(0, length - len(samples))))


def _cache_embedding(
    ctx: StepContext, encoder: AudioEncoder, samples: Samples, needed_rows: int
) -> str:
    """The prefix of the keys of a voice's embedding, computed unless it is in the store.

    Spans of a long recording that no chunk needs are left out, which changes no other row.
    """
    ctx.raise_if_draining()
    voice = encoder.prepare(samples)
    return cache_rows(
        ctx,
        "voice",
        encoder.fingerprint,
        samples.data.cast("B"),
        spans=[span for span in voice.spans() if span.start < needed_rows],
        make=partial(encoder.encode, voice),
    )


@cache
def _encoder(settings: Settings, model: str) -> AudioEncoder:
    """The speech encoder of a model, loaded once in the life of this process."""
    from farm.model.audio import load_audio_encoder
    from farm.model.checkpoints import checkpoint_folder

    folder = checkpoint_folder(preset(model), settings.weights_folder)
    return load_audio_encoder(folder, digests=Digests(settings.digests_folder))


def _warnings(request: ResolvedRequest, visual_seconds: float | None, heard: _Heard) -> list[str]:
    warnings = request.cut(heard.spoken_frames)
    if visual_seconds is not None and visual_seconds < (heard.frames - 1) / FPS:
        warnings.append(
            f"cond_video lasts {visual_seconds:.2f} s, the video {heard.frames / FPS:.2f} s; "
            "its last frame is used for the rest"
        )
    if request.bbox and request.speakers == 1:
        warnings.append("bbox has no effect: the model uses boxes for two speakers only")
    return warnings
