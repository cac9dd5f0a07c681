"""Station `download`: the picture or video and the voices, fetched or spoken, checked, and in the store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from farm.engine.step_context import Work
from farm.errors import DownloadFailed, InvalidInput
from farm.job import TtsAudio
from farm.job.dialogue import turns
from farm.media.probe import Clip, Picture, expect_sound, expect_visual
from farm.media.speech import converse, speak
from farm.model.presets import preset
from farm.net.download import fetch
from farm.steps.allowed import check_allowed
from farm.store import keys


def download(work: Work) -> dict[str, Any]:
    """`visual` (a store key) and its `kind`, `image` or `video`; `sounds`, a store key for each speaker."""
    work.report("validation_started")
    _check_size(work)
    check_allowed(work.request, work.settings)
    work.report("validation_ok")
    work.report("downloads_started")
    with work.timed("preprocess"):
        visual, kind = _visual(work)
        sounds = _sounds(work)
    work.report("downloads_ok")
    return {"visual": visual, "kind": kind, "sounds": sounds}


def _check_size(work: Work) -> None:
    model = preset(work.settings.preset)
    if work.request.size not in model.sizes:
        raise InvalidInput(f"size: got {work.request.size!r}; the model {model.name} makes {', '.join(model.sizes)}")


def _visual(work: Work) -> tuple[str, str]:
    key, path = _bring(work, work.request.cond_video, "cond_video", work.settings.max_visual_bytes)
    found = expect_visual(path, field="cond_video")
    _check_boxes(work, found)
    if work.request.scene_seg and isinstance(found, Picture):
        raise InvalidInput("scene_seg: got True, but cond_video is a picture; allowed: true with a video")
    return key, "image" if isinstance(found, Picture) else "video"


def _check_boxes(work: Work, found: Picture | Clip) -> None:
    boxes = work.request.bbox.model_dump(exclude_none=True) if work.request.bbox else {}
    for person, (left, top, right, bottom) in boxes.items():
        if right > found.width or bottom > found.height:
            raise InvalidInput(
                f"bbox.{person}: got [{left:g}, {top:g}, {right:g}, {bottom:g}]; "
                f"allowed: x up to {found.width}, y up to {found.height}, the size of cond_video"
            )


def _sounds(work: Work) -> list[str]:
    request = work.request
    if request.tts_audio:
        return _spoken(work, request.tts_audio)
    if request.cond_audio is None:
        raise InvalidInput("cond_audio: got None; give exactly one of cond_audio and tts_audio")
    voices = request.cond_audio.model_dump(exclude_none=True)
    return [_sound(work, source, f"cond_audio.{person}") for person, source in voices.items()]


def _spoken(work: Work, words: TtsAudio) -> list[str]:
    first, second = work.scratch / "speech1.wav", work.scratch / "speech2.wav"
    voices, kokoro = (words.human1_voice, words.human2_voice), work.settings.weights_folder / "kokoro"
    if words.human2_voice is None:
        speak(words.text, first, voice=words.human1_voice, weights=kokoro)
        return [work.put(first, first.name)]
    converse(turns(words.text), (first, second), voices=voices, weights=kokoro)
    return [work.put(path, path.name) for path in (first, second)]


def _sound(work: Work, source: str, field: str) -> str:
    key, path = _bring(work, source, field, work.settings.max_sound_bytes)
    expect_sound(path, field=field)
    return key


def _bring(work: Work, source: str, field: str, max_bytes: int) -> tuple[str, Path]:
    """A source as a store key and as a local file."""
    work.make_way()
    if not source.startswith(keys.SCHEME):
        path = work.scratch / field
        timeout_s, allow = work.settings.fetch_timeout_s, work.settings.fetch_allow
        fetch(source, path, field=field, max_bytes=max_bytes, timeout_s=timeout_s, allow=allow)
        return work.put(path, field), path
    key = source.removeprefix(keys.SCHEME)
    if not re.fullmatch(keys.UPLOADS + "[0-9a-f]{64}", key):
        raise InvalidInput(
            f"{field}: got {source!r}; allowed: store://{keys.UPLOADS}... as the client's upload returned it"
        )
    size = work.store.size(key)
    if size is None:
        raise DownloadFailed(f"{field}: the store holds no {key}; upload the file again", retryable=False)
    if size > max_bytes:
        raise DownloadFailed(f"{field}: it is {size} bytes; allowed: at most {max_bytes}", retryable=False)
    return key, work.fetch(key, field)
