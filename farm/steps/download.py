"""Station `download`: the picture or video and the voices, fetched or spoken, checked, and in the store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from farm.engine.step_context import StepContext
from farm.errors import DownloadFailed, InvalidInput
from farm.job import TtsAudio
from farm.job.dialogue import turns
from farm.media.probe import Clip, StillImage, expect_audio, expect_visual
from farm.media.speech import speak, speak_dialogue
from farm.model.presets import preset
from farm.net.download import download_file
from farm.steps.allowed import check_allowed
from farm.store import keys


def download(ctx: StepContext) -> dict[str, Any]:
    """`visual` (a store key) and its `kind`, `image` or `video`; `sounds`, a store key for each speaker."""
    ctx.report("validation_started")
    _check_size(ctx)
    check_allowed(ctx.request, ctx.settings)
    ctx.report("validation_ok")
    ctx.report("downloads_started")
    with ctx.timed("preprocess"):
        visual, kind = _visual(ctx)
        sounds = _sounds(ctx)
    ctx.report("downloads_ok")
    return {"visual": visual, "kind": kind, "sounds": sounds}


def _check_size(ctx: StepContext) -> None:
    model = preset(ctx.settings.preset)
    if ctx.request.size not in model.sizes:
        raise InvalidInput(f"size: got {ctx.request.size!r}; the model {model.name} makes {', '.join(model.sizes)}")


def _visual(ctx: StepContext) -> tuple[str, str]:
    key, path = _bring(ctx, ctx.request.cond_video, "cond_video", ctx.settings.max_visual_bytes)
    found = expect_visual(path, field="cond_video")
    _check_boxes(ctx, found)
    if ctx.request.scene_seg and isinstance(found, StillImage):
        raise InvalidInput("scene_seg: got True, but cond_video is a picture; allowed: true with a video")
    return key, "image" if isinstance(found, StillImage) else "video"


def _check_boxes(ctx: StepContext, found: StillImage | Clip) -> None:
    boxes = ctx.request.bbox.model_dump(exclude_none=True) if ctx.request.bbox else {}
    for person, (left, top, right, bottom) in boxes.items():
        if right > found.width or bottom > found.height:
            raise InvalidInput(
                f"bbox.{person}: got [{left:g}, {top:g}, {right:g}, {bottom:g}]; "
                f"allowed: x up to {found.width}, y up to {found.height}, the size of cond_video"
            )


def _sounds(ctx: StepContext) -> list[str]:
    request = ctx.request
    if request.tts_audio:
        return _spoken(ctx, request.tts_audio)
    if request.cond_audio is None:
        raise InvalidInput("cond_audio: got None; give exactly one of cond_audio and tts_audio")
    voices = request.cond_audio.model_dump(exclude_none=True)
    return [_sound(ctx, source, f"cond_audio.{person}") for person, source in voices.items()]


def _spoken(ctx: StepContext, words: TtsAudio) -> list[str]:
    first, second = ctx.scratch / "speech1.wav", ctx.scratch / "speech2.wav"
    voices, kokoro = (words.human1_voice, words.human2_voice), ctx.settings.weights_folder / "kokoro"
    if words.human2_voice is None:
        speak(words.text, first, voice=words.human1_voice, weights=kokoro)
        return [ctx.put(first, first.name)]
    speak_dialogue(turns(words.text), (first, second), voices=voices, weights=kokoro)
    return [ctx.put(path, path.name) for path in (first, second)]


def _sound(ctx: StepContext, source: str, field: str) -> str:
    key, path = _bring(ctx, source, field, ctx.settings.max_sound_bytes)
    expect_audio(path, field=field)
    return key


def _bring(ctx: StepContext, source: str, field: str, max_bytes: int) -> tuple[str, Path]:
    """A source as a store key and as a local file."""
    ctx.make_way()
    if not source.startswith(keys.SCHEME):
        path = ctx.scratch / field
        timeout_s, allow = ctx.settings.fetch_timeout_s, ctx.settings.fetch_allow
        download_file(source, path, field=field, max_bytes=max_bytes, timeout_s=timeout_s, allow=allow)
        return ctx.put(path, field), path
    key = source.removeprefix(keys.SCHEME)
    if not re.fullmatch(keys.UPLOADS + "[0-9a-f]{64}", key):
        raise InvalidInput(
            f"{field}: got {source!r}; allowed: store://{keys.UPLOADS}... as the client's upload returned it"
        )
    size = ctx.store.size(key)
    if size is None:
        raise DownloadFailed(f"{field}: the store holds no {key}; upload the file again", retryable=False)
    if size > max_bytes:
        raise DownloadFailed(f"{field}: it is {size} bytes; allowed: at most {max_bytes}", retryable=False)
    return key, ctx.fetch(key, field)
