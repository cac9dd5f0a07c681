"""The speech of a text, synthesised in the sandbox within the operator's limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from farm.engine.step_context import StepContext
from farm.job import TtsAudio
from farm.job.dialogue import turns
from farm.media import sandbox
from farm.media.speech import FIELD, speak, speak_dialogue
from farm.steps.cpu_turn import in_turn

THREADS = 4
"""Of Kokoro. The default, one for each core, would take 9 GB of address space on 128 cores."""

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def store_speech(ctx: StepContext, tts: TtsAudio) -> list[str]:
    """Speaks the text of one or two speakers in one child; the keys of a recording of each."""
    kokoro_folder = ctx.settings.kokoro_folder
    max_seconds = ctx.settings.max_audio_s
    paths = ctx.scratch / "speech1.wav", ctx.scratch / "speech2.wav"
    if tts.human2_voice is None:
        _sandboxed(ctx, speak)(
            text=tts.text,
            path=paths[0],
            voice=tts.human1_voice,
            kokoro_folder=kokoro_folder,
            max_seconds=max_seconds,
        )
        return [ctx.put(paths[0], paths[0].name)]
    _sandboxed(ctx, speak_dialogue)(
        turns=turns(tts.text),
        paths=paths,
        speaker_voices=(tts.human1_voice, tts.human2_voice),
        kokoro_folder=kokoro_folder,
        max_seconds=max_seconds,
    )
    return [ctx.put(path, path.name) for path in paths]


def _sandboxed(
    ctx: StepContext, function: Callable[Arguments, Answer]
) -> Callable[Arguments, Answer]:
    settings = ctx.settings
    limits = sandbox.SandboxLimits(
        seconds=settings.tts_timeout_s,
        memory_bytes=settings.tts_memory_mb * 1_000_000,
        threads=THREADS,
    )
    call = sandbox.sandboxed(
        function, limits=limits, check=ctx.raise_if_stopped, subject=f"{FIELD}: its synthesis"
    )
    return in_turn(ctx, call)
