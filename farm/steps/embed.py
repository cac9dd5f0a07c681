"""Station `embed`: what the model hears of the voices, what the video sounds like, and the plan of its chunks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from farm.engine.route import Step
from farm.engine.step_context import StepContext
from farm.errors import InvalidInput
from farm.media import scenes
from farm.media.audio import speech
from farm.media.mix import aligned_tracks, mix
from farm.model.presets import preset
from farm.plan import FPS, SPEECH_RATE, Plan, frame_count, merge_short_scenes
from farm.steps import soundtrack
from farm.steps.features import laid

if TYPE_CHECKING:
    from farm.model.audio import AudioEncoder


def embed(ctx: StepContext) -> dict[str, Any]:
    """What the keys of each speaker's `embeddings` begin with, their `rows`; of the video the `sound`, whole, and its
    `track`, in pieces for the chunks, `frames`, `chunks`, `cuts`; `warnings`.
    """
    ctx.report("embeddings_started")
    with ctx.timed("embedding"):
        sounds = ctx.output(Step("download"))["sounds"]
        paths = [ctx.fetch(key, f"sound-{speaker}") for speaker, key in enumerate(sounds)]
        voices = _voices(ctx, paths)
        heard = frame_count(len(voices[0]))
        frames = min(heard, longest(ctx))
        padded = [_padded(voice, ctx.request.frame_num) for voice in voices]
        embeddings = [_embedding(ctx, voice) for voice in padded]
        sound = _mixed(ctx, paths, frames) if len(paths) > 1 else sounds[0]
    with ctx.timed("preprocess"):
        cuts = _cuts(ctx, frames)
        plan = Plan(frames, ctx.request.frame_num, ctx.request.motion_frame, cuts)
        track = soundtrack.lay(ctx, ctx.fetch(sound, "sound"), plan)
    ctx.report("embeddings_ok", frames=frames, seconds=round(frames / FPS, 2), scenes=len(cuts) + 1)
    facts = {"rows": frame_count(len(padded[0])), "frames": frames, "chunks": plan.chunks, "cuts": cuts}
    warnings = _warnings(ctx, heard, frames)
    return {"embeddings": embeddings, "sound": sound, "track": track, **facts, "warnings": warnings}


def longest(ctx: StepContext) -> int:
    """The most frames that the request allows."""
    return ctx.request.frame_num if ctx.request.mode == "clip" else ctx.request.max_frame_num


def _voices(ctx: StepContext, paths: list[Path]) -> Sequence[NDArray[np.float32]]:
    """What each speaker says, each as loud as the other, as tracks of one length."""
    voices = [_voice(path, f"cond_audio.person{person}") for person, path in enumerate(paths, start=1)]
    return aligned_tracks(voices[0], voices[1], in_turn=_in_turn(ctx)) if len(voices) > 1 else voices


def _voice(path: Path, field: str) -> NDArray[np.float32]:
    samples = speech(path)
    if frame_count(len(samples)) < 1:
        raise InvalidInput(f"{field}: it lasts {len(samples) / SPEECH_RATE:.3f} s; allowed: 0.04 s or more")
    return samples


def _mixed(ctx: StepContext, paths: list[Path], frames: int) -> str:
    """The store key of what two speakers' recordings sound like in a video of so many frames."""
    out = ctx.scratch / "sound.wav"
    mix(paths[0], paths[1], out, in_turn=_in_turn(ctx), seconds=frames / FPS)
    return ctx.put(out, out.name)


def _in_turn(ctx: StepContext) -> bool:
    """Whether one recording follows the other; spoken turns wait for each other already."""
    return ctx.request.tts_audio is None and ctx.request.audio_type == "add"


def _cuts(ctx: StepContext, frames: int) -> tuple[int, ...]:
    """The frames with which new scenes of the source begin, if the request wants them apart."""
    if not ctx.request.scene_seg:
        return ()
    source = ctx.fetch(ctx.output(Step("download"))["visual"], "visual")
    return merge_short_scenes(scenes.cuts(source, frames=frames), frames)


def _padded(samples: NDArray[np.float32], frame_num: int) -> NDArray[np.float32]:
    """Speech shorter than a chunk is followed by silence; the video is cut to the speech."""
    missing = -(-frame_num * SPEECH_RATE // FPS) - len(samples)
    return np.pad(samples, (0, missing)) if missing > 0 else samples


def _embedding(ctx: StepContext, samples: NDArray[np.float32]) -> str:
    from farm.model.checkpoints import ready

    ctx.make_way()
    folder = ready(preset(ctx.settings.preset), ctx.settings.weights_folder)
    encoder = _encoder(folder)
    voice = encoder.listen(samples)
    make = partial(encoder.rows, voice)
    content = samples.data.cast("B")
    return laid(ctx, "voice", folder / "audio_encoder", content, stretches=voice.stretches(), make=make)


@cache
def _encoder(folder: Path) -> AudioEncoder:
    from farm.model.audio import load_audio_encoder

    return load_audio_encoder(folder)


def _warnings(ctx: StepContext, heard: int, frames: int) -> list[str]:
    said = []
    if frames < heard:
        cap = "mode streaming makes all of it" if ctx.request.mode == "clip" else "max_frame_num is the cap"
        said.append(f"the voice lasts {heard / FPS:.2f} s, the video ends after {frames / FPS:.2f} s ({cap})")
    if ctx.request.bbox and ctx.request.speakers == 1:
        said.append("bbox changes nothing: the model asks for places only where two people speak")
    return said
