"""What a worker would refuse of a job's files, refused before anything is uploaded or queued."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, TypeVar

from farm.client.uploads import can_probe, local_content
from farm.errors import DownloadFailed, InvalidInput
from farm.job import JobRequest
from farm.net.data_uri import unusable_source
from farm.settings import Settings
from farm.steps.allowed import check_bytes

if TYPE_CHECKING:
    from farm.media.probe import Clip, StillImage

Found = TypeVar("Found")


def check_media(request: JobRequest, settings: Settings) -> list[float | None]:
    """The seconds of each recording; None for one that is elsewhere, which only a worker checks.

    Raises InvalidInput for a file, or data in the request, that the step `download` refuses.
    """
    try:
        _check_visual(request, settings.max_visual_bytes)
        _check_voices(request)
        recordings = request.cond_audio.model_dump(exclude_none=True) if request.cond_audio else {}
        return [
            _probed(source, f"cond_audio.{person}", settings.max_audio_bytes, _recording_seconds)
            for person, source in recordings.items()
        ]
    except DownloadFailed as error:
        # The code for content of a wrong type; but nothing was downloaded, the file is local.
        raise InvalidInput(error.message) from error


def _check_visual(request: JobRequest, max_bytes: int) -> None:
    found = _probed(request.cond_video, "cond_video", max_bytes, _visual)
    if found:
        from farm.steps.media import check_visual

        check_visual(request, found)


def _check_voices(request: JobRequest) -> None:
    if request.tts_audio is None or not can_probe():
        return
    from farm.media.speech import check_voice

    for name in ("human1_voice", "human2_voice"):
        voice = getattr(request.tts_audio, name)
        if voice is not None:
            check_voice(voice, field=f"tts_audio.{name}")


def _probed(
    source: str, field: str, max_bytes: int, probe: Callable[[Path, str, tuple[int, int]], Found]
) -> Found | None:
    """What `probe` finds; None for a source that is elsewhere, and where nothing can be probed."""
    content = local_content(source, field)
    if content is None:
        return None
    try:
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        check_bytes(size, field=field, max_bytes=max_bytes)
        if not can_probe():
            return None
        with _as_file(content) as path:
            return probe(path, field, (size, path.stat().st_mtime_ns))
    except OSError as error:
        reason = f"it cannot be read ({error.strerror})"
        raise unusable_source(source, field, reason) from error


@contextmanager
def _as_file(content: Path | bytes) -> Iterator[Path]:
    if isinstance(content, Path):
        yield content
        return
    with NamedTemporaryFile(prefix="farm-") as file:
        file.write(content)
        file.flush()
        yield Path(file.name)


# Rows of a batch often share a file. Its size and time tell whether it is still the same.


@lru_cache(1024)
def _visual(path: Path, field: str, _: tuple[int, int]) -> StillImage | Clip:
    from farm.media.probe import expect_visual

    return expect_visual(path, field=field)


@lru_cache(1024)
def _recording_seconds(path: Path, field: str, _: tuple[int, int]) -> float:
    from farm.steps.media import check_recording

    return check_recording(path, field=field).seconds
