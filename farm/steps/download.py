"""The step `download`: the image or video and the voices, fetched or synthesised, and checked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextvars import copy_context
from pathlib import Path

from farm.engine.sources import source_urls
from farm.engine.step_context import StepContext
from farm.errors import Cancelled, CorruptObject, DownloadFailed, InvalidInput, shorten
from farm.media import decoder
from farm.media.decoder import Visual
from farm.media.probe import Clip
from farm.net.download import download_file
from farm.presets import Buckets
from farm.registry.outputs import DownloadOutput
from farm.steps.allowed import check_allowed, check_bytes
from farm.steps.decoding import sandboxed
from farm.steps.media import (
    check_boxes_in_video,
    check_visual,
    recording_warnings,
    visual_warnings,
)
from farm.steps.speaking import store_speech
from farm.store import keys


def download(ctx: StepContext) -> DownloadOutput:
    """Stores the checked source and one recording for each speaker."""
    check_allowed(ctx.request, ctx.settings)
    buckets = ctx.request.preset.buckets(ctx.request.size)
    ctx.report("validation_ok", another_follows=True)
    ctx.report("downloads_started")
    warnings: list[str] = []
    with ctx.timed("preprocess"):
        _fetch_urls(ctx)
        visual_key, visual = _store_visual(ctx, buckets, warnings)
        audio_keys = _store_voices(ctx, warnings)
    ctx.report("downloads_ok", another_follows=True)
    clip = visual.found if isinstance(visual.found, Clip) else None
    return DownloadOutput(
        visual_kind="video" if clip else "image",
        visual_key=visual_key,
        visual_scale=visual.scale,
        visual_seconds=clip.seconds if clip else None,
        audio_keys=tuple(audio_keys),
        warnings=tuple(warnings),
    )


def _fetch_urls(ctx: StepContext) -> None:
    """Downloads all sources that are URLs at once; each becomes the scratch file of its field.

    So a slow server holds a worker for the time limit of one download, not of three.
    """
    failed = threading.Event()
    fetch = _fetcher(ctx, failed)
    with ThreadPoolExecutor() as pool:
        fetches = [
            pool.submit(copy_context().run, fetch, field, url, max_bytes)
            for field, url, max_bytes in _urls(ctx)
        ]
        try:
            for fetched in as_completed(fetches):
                fetched.result()
        except BaseException:
            failed.set()
            raise


def _fetcher(ctx: StepContext, failed: threading.Event) -> Callable[[str, str, int], None]:
    """Downloads one source, given as `_urls` yields it, until another one has failed."""

    def raise_if_stopped() -> None:
        if failed.is_set():
            raise Cancelled("another source of the job failed")
        ctx.raise_if_stopped()

    def fetch(field: str, url: str, max_bytes: int) -> None:
        download_file(
            url,
            ctx.scratch / field,
            field=field,
            max_bytes=max_bytes,
            timeout_s=ctx.settings.fetch_timeout_s,
            min_bytes_per_s=ctx.settings.fetch_min_bytes_per_s,
            speed_window_s=ctx.settings.fetch_speed_window_s,
            raise_if_stopped=raise_if_stopped,
            allow=ctx.settings.fetch_allow,
            ports=ctx.settings.fetch_port_ranges,
        )

    return fetch


def _urls(ctx: StepContext) -> Iterator[tuple[str, str, int]]:
    """Field, URL and largest size of every source that was not uploaded."""
    settings = ctx.settings
    for field, url in source_urls(ctx.request).items():
        is_visual = field == "cond_video"
        yield field, url, settings.max_visual_bytes if is_visual else settings.max_audio_bytes


def _store_visual(ctx: StepContext, buckets: Buckets, warnings: list[str]) -> tuple[str, Visual]:
    field = "cond_video"
    path, upload_key = _fetch(ctx, ctx.request.cond_video, field, ctx.settings.max_visual_bytes)
    image = ctx.scratch / "image.png"
    visual = sandboxed(ctx, decoder.read_visual)(path=path, image=image, field=field)
    check_visual(ctx.request, visual.found)
    check_boxes_in_video(ctx.request, visual.found, buckets)
    warnings += visual_warnings(visual, buckets)
    if isinstance(visual.found, Clip):
        return upload_key or ctx.put(path, field), visual
    return ctx.put(image, image.name), visual


def _store_voices(ctx: StepContext, warnings: list[str]) -> list[str]:
    request = ctx.request
    if request.tts_audio:
        return store_speech(ctx, request.tts_audio)
    if request.cond_audio is None:
        raise InvalidInput("cond_audio: got None; give exactly one of cond_audio and tts_audio")
    recordings = request.cond_audio.model_dump(exclude_none=True)
    return [
        _store_recording(ctx, source, f"cond_audio.{person}", warnings)
        for person, source in recordings.items()
    ]


def _store_recording(ctx: StepContext, source: str, field: str, warnings: list[str]) -> str:
    path, _ = _fetch(ctx, source, field, ctx.settings.max_audio_bytes)
    flac = ctx.scratch / f"{field}.flac"
    recording = sandboxed(ctx, decoder.read_audio)(
        path=path, flac=flac, max_seconds=ctx.settings.max_audio_s, field=field
    )
    warnings += recording_warnings(recording, field=field)
    return ctx.put(flac, flac.name)


def _fetch(ctx: StepContext, source: str, field: str, max_bytes: int) -> tuple[Path, str | None]:
    """A source as a local file, and its key in the store if it was uploaded."""
    ctx.raise_if_draining()
    if source.startswith(keys.SCHEME):
        return _fetch_upload(ctx, source, field, max_bytes)
    return ctx.scratch / field, None


def _fetch_upload(ctx: StepContext, source: str, field: str, max_bytes: int) -> tuple[Path, str]:
    """The same for a file that the client uploaded."""
    key = source.removeprefix(keys.SCHEME)
    if not keys.UPLOAD.fullmatch(key):
        allowed = f"store://{keys.UPLOADS}... as the client's upload returned it"
        raise InvalidInput(f"{field}: got {shorten(repr(source))}; allowed: {allowed}")
    size = ctx.store.size(key)
    if size is None:
        message = f"{field}: the store holds no {key}; upload the file again"
        raise DownloadFailed(message, retryable=False)
    check_bytes(size, field=field, max_bytes=max_bytes)
    try:
        return ctx.fetch(key, field), key
    except CorruptObject as error:
        ctx.store.delete(key)  # the client uploads only what the store lacks
        message = f"{field}: {error.message}; upload the file again"
        raise CorruptObject(message, retryable=False) from error
