"""What the header of a media file announces, which an upload that broke off does not keep."""

from __future__ import annotations

from pathlib import Path

import av
from av.container import InputContainer

from farm.errors import FarmError
from farm.media.container import audio_stream, open_media, video_stream
from farm.media.probe import Audio, Clip, expect_audio

_MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
_MATROSKA = "matroska,webm"
_FLAC = "flac"
"""FFmpeg's names of formats with a length in the header; elsewhere FFmpeg estimates it."""

_FRAGMENTED = b"mvex"
"""The box in the header of an MP4 whose fragments are written as they come, without a length."""

_HEADER_BYTES = 65_536

_CLOSE_S = 0.5
"""Seconds by which tracks of equal length may differ, also where both break off."""


def announced_seconds(path: Path, found: Clip | Audio) -> float | None:
    """The length of what `probe` found in a file, by its header; None if that says nothing."""
    with path.open("rb") as file:
        is_fragmented = _FRAGMENTED in file.read(_HEADER_BYTES)
    with open_media(path) as container:
        if container.format.name == _MP4:
            return None if is_fragmented else _track_seconds(container, found)
        if container.format.name in (_MATROSKA, _FLAC):
            return _file_seconds(path, container, found)
    return None


def _track_seconds(container: InputContainer, found: Clip | Audio) -> float | None:
    choose = video_stream if isinstance(found, Clip) else audio_stream
    stream = choose(container)
    if stream is None or not stream.duration or not stream.time_base:
        return None
    return float(stream.duration * stream.time_base)


def _file_seconds(path: Path, container: InputContainer, found: Clip | Audio) -> float | None:
    """The same where the header knows the longest track only: None if another may be longer."""
    tracks = len(container.streams.video) + len(container.streams.audio)
    if container.duration is None or tracks > 2:
        return None
    if tracks == 2 and not _has_short_audio(path, found):
        return None
    begin = max(container.start_time or 0, 0)  # Matroska's length counts from zero
    return (container.duration - begin) / av.time_base


def _has_short_audio(path: Path, found: Clip | Audio) -> bool:
    """Whether the other track of a file is audio, no longer than the video that was found."""
    if isinstance(found, Audio):
        return False
    try:
        audio = expect_audio(path, field=path.name)
    except FarmError:
        return False
    return audio.seconds <= found.seconds + _CLOSE_S
