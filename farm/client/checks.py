"""What a worker would refuse of a job's files, refused before anything is uploaded or queued."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, TypeVar

from farm.client.uploads import (
    LocalFiles,
    can_probe,
    content_size,
    is_pipe,
    is_url,
    local_content,
)
from farm.errors import DownloadFailed, InvalidInput, all_mistakes
from farm.job import JobRequest, ResolvedRequest
from farm.job.dialogue import Turn, turns
from farm.job.files import change_sources
from farm.net.data_uri import unusable_source
from farm.net.public import private_host
from farm.settings import Settings
from farm.steps.allowed import check_bytes
from farm.store import keys

if TYPE_CHECKING:
    from farm.media.probe import Clip, StillImage
    from farm.presets import Buckets

Found = TypeVar("Found")

FileVersion = tuple[int, int]
"""Size and time of a file: rows of a batch often share one, which is probed once."""


def check_media(
    request: ResolvedRequest,
    settings: Settings,
    local_files: LocalFiles = True,
    *,
    buckets: Buckets | None = None,
) -> list[float | None]:
    """The seconds of each recording; None for one that is elsewhere, which only a worker checks.

    Files are those of a stranger unless any may be named; they are decoded in a sandbox. Without
    the `buckets` of the workers' model only they check how much of a box the video shows.

    Raises InvalidInput for a file, or data in the request, that the step `download` refuses.
    """
    recordings = request.cond_audio.model_dump(exclude_none=True) if request.cond_audio else {}
    with all_mistakes() as check:
        check(_check_visual, request, settings.max_visual_bytes, local_files, buckets)
        check(_check_speech, request, settings)
        return [
            check(_seconds, source, f"cond_audio.{person}", settings, local_files)
            for person, source in recordings.items()
        ]


def _seconds(source: str, field: str, settings: Settings, local_files: LocalFiles) -> float | None:
    probe = partial(_recording_seconds, max_seconds=settings.max_audio_s)
    return _probed(source, field, settings.max_audio_bytes, local_files, probe)


def check_sources(
    fields: Mapping[str, Any], settings: Settings, local_files: LocalFiles = True
) -> None:
    """The same for the files of a request that is no valid one, but for its boxes."""

    def probe(source: Any, field: str) -> None:
        if not isinstance(source, str) or is_pipe(source):  # a pipe can be read once only
            return
        if field == "cond_video":
            _probed(source, field, settings.max_visual_bytes, local_files, _visual)
        else:
            _seconds(source, field, settings, local_files)

    with all_mistakes() as check:
        change_sources(fields, lambda source, field: check(probe, source, field))


def check_urls(request: JobRequest, settings: Settings) -> None:
    """Raises InvalidInput for a URL that names a private address, and keys that are no uploads.

    Names of hosts are resolved by the worker that fetches from them.
    """

    def check(source: str, field: str) -> str:
        host = private_host(source, settings.fetch_allow) if is_url(source) else None
        if host is not None:
            raise unusable_source(source, field, f"{host} is not on the open internet", files=False)
        is_key = source.lower().startswith(keys.SCHEME)
        if is_key and not keys.UPLOAD.fullmatch(source.removeprefix(keys.SCHEME)):
            raise unusable_source(source, field, "it is no upload", files=False)
        return source

    request.with_sources(check)


def check_uploads(
    request: ResolvedRequest, uploads: Mapping[str, int], is_own: Callable[[str, int], bool]
) -> None:
    """Raises InvalidInput for an upload that is not the caller's own.

    `uploads` are those that the request takes from the store, with their bytes.
    """
    foreign = {keys.SCHEME + key for key, size in uploads.items() if not is_own(key, size)}

    def check(source: str, field: str) -> str:
        if source in foreign:
            allowed = "uploads of your own jobs, as long as they are kept"
            raise InvalidInput(f"{field}: got {source}; allowed: {allowed}")
        return source

    request.with_sources(check)


def _check_visual(
    request: ResolvedRequest, max_bytes: int, local_files: LocalFiles, buckets: Buckets | None
) -> None:
    found = _probed(request.cond_video, "cond_video", max_bytes, local_files, _visual)
    if found:
        from farm.steps.media import check_boxes_in_video, check_visual

        check_visual(request, found)
        if buckets:
            check_boxes_in_video(request, found, buckets)


def _check_speech(request: ResolvedRequest, settings: Settings) -> None:
    tts = request.tts_audio
    if tts is None or not can_probe():
        return
    from farm.media.speech import check_speech

    spoken = [Turn(1, tts.text)] if request.speakers == 1 else turns(tts.text)
    check_speech(
        spoken,
        speaker_voices=(tts.human1_voice, tts.human2_voice),
        kokoro_folder=settings.kokoro_folder,
    )


def _probed(
    source: str,
    field: str,
    max_bytes: int,
    local_files: LocalFiles,
    probe: Callable[[Path, str, FileVersion, bool], Found],
) -> Found | None:
    """What `probe` finds; None for a source that is elsewhere, and where nothing can be probed."""
    content = local_content(source, field, local_files)
    if content is None:
        return None
    try:
        size = content_size(content)
        check_bytes(size, field=field, max_bytes=max_bytes)
        if not can_probe():
            return None
        with _as_file(content) as path:
            version = (size, path.stat().st_mtime_ns)
            return probe(path, field, version, local_files is not True)
    except DownloadFailed as error:
        # The code for content of a wrong type; but nothing was downloaded, the file is local.
        raise InvalidInput(error.message) from error
    except OSError as error:
        reason = f"it cannot be read ({error.strerror})"
        raise unusable_source(source, field, reason, files=local_files is not False) from error


@contextmanager
def _as_file(content: Path | bytes) -> Iterator[Path]:
    if isinstance(content, Path):
        yield content
        return
    with NamedTemporaryFile(prefix="farm-") as file:
        file.write(content)
        file.flush()
        yield Path(file.name)


@lru_cache(1024)
def _visual(path: Path, field: str, _: FileVersion, sandbox: bool) -> StillImage | Clip:
    from farm.media.decoder import describe_visual
    from farm.media.sandbox import sandboxed

    describe = sandboxed(describe_visual) if sandbox else describe_visual
    return describe(path=path, field=field)


@lru_cache(1024)
def _recording_seconds(
    path: Path, field: str, _: FileVersion, sandbox: bool, *, max_seconds: float
) -> float:
    from farm.media.decoder import describe_audio
    from farm.media.sandbox import sandboxed

    describe = sandboxed(describe_audio) if sandbox else describe_audio
    return describe(path=path, max_seconds=max_seconds, field=field).seconds
