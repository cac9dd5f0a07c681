"""Opening containers of video and audio, restricted to the formats that the farm accepts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

import av
from av import AudioFrame, AudioStream, Packet, VideoFrame, VideoStream
from av.container import InputContainer
from av.stream import Disposition

DEMUXERS = "mov,mp4,matroska,webm,wav,w64,aiff,caf,mp3,flac,ogg,aac"
"""Formats that FFmpeg may open.

It has hundreds of demuxers. Some, playlists above all, refer to other files and URLs, which FFmpeg
would then read on behalf of the author of the file.
"""


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """The container at `path`; av.FFmpegError if it is broken or of a format outside DEMUXERS."""
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    # Without the prefix FFmpeg would guess the protocol from the name.
    url = f"file:{path}"
    with av.open(url, "r", options=options, metadata_errors="replace") as container:
        yield container


def video_stream(container: InputContainer) -> VideoStream | None:
    """The first video stream; cover art does not count."""
    streams = container.streams.video
    videos = (each for each in streams if not each.disposition & Disposition.attached_pic)
    return next(videos, None)


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The first audio stream."""
    return next(iter(container.streams.audio), None)


@overload
def decode_frames(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]: ...
@overload
def decode_frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]: ...
def decode_frames(
    container: InputContainer, stream: AudioStream | VideoStream
) -> Iterator[AudioFrame | VideoFrame]:
    """Every decodable frame from the current position of the container."""
    for packet in container.demux(stream):
        yield from decode_packet(packet)


def decode_packet(packet: Packet[Any]) -> list[Any]:
    """The frames in a packet; none if it is damaged."""
    try:
        return list(packet.decode())
    except av.error.InvalidDataError:
        return []
