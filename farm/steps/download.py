"""Station `download`: the picture or video and the voice, fetched or spoken, checked, and in the store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from farm.errors import DownloadFailed, InvalidInput
from farm.media.fetch import fetch
from farm.media.probe import Picture, expect_sound, expect_visual
from farm.media.speech import speak
from farm.model.presets import preset
from farm.steps.work import Work
from farm.store import keys


def download(work: Work) -> dict[str, Any]:
    """`visual` and `sound` (store keys) and `kind` of the visual, `image` or `video`."""
    work.report("validation_started")
    _check_size(work)
    work.report("validation_ok")
    work.report("downloads_started")
    with work.timed("preprocess"):
        visual, kind = _visual(work)
        sound = _sound(work)
    work.report("downloads_ok")
    return {"visual": visual, "kind": kind, "sound": sound}


def _check_size(work: Work) -> None:
    model = preset(work.settings.preset)
    if work.request.size not in model.sizes:
        raise InvalidInput(f"size: got {work.request.size!r}; the model {model.name} makes {', '.join(model.sizes)}")


def _visual(work: Work) -> tuple[str, str]:
    key, path = _bring(work, work.request.cond_video, "cond_video", work.settings.max_visual_bytes)
    found = expect_visual(path, field="cond_video")
    return key, "image" if isinstance(found, Picture) else "video"


def _sound(work: Work) -> str:
    request = work.request
    if request.tts_audio:
        path = work.scratch / "speech.wav"
        speak(request.tts_audio.text, path, voice=request.tts_audio.human1_voice)
        return work.put(path, path.name)
    if request.cond_audio is None:
        raise InvalidInput("cond_audio: got None; give exactly one of cond_audio and tts_audio")
    key, path = _bring(work, request.cond_audio.person1, "cond_audio.person1", work.settings.max_sound_bytes)
    expect_sound(path, field="cond_audio.person1")
    return key


def _bring(work: Work, source: str, field: str, max_bytes: int) -> tuple[str, Path]:
    """A source as a store key and as a local file."""
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
