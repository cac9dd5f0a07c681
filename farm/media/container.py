"""Opening a container of video or sound, and only the kinds that we mean to open."""

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
"""Which kinds of file FFmpeg may open. It knows hundreds, and some of them, playlists above all, name other files and
addresses that it would then read for whoever wrote the list."""


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """The container at `path`; av.FFmpegError if it is broken or of a kind outside DEMUXERS."""
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    # Without the prefix FFmpeg would guess from the name which protocol is meant.
    with av.open(f"file:{path}", "r", options=options, metadata_errors="replace") as container:
        yield container


def video_stream(container: InputContainer) -> VideoStream | None:
    """The first moving picture; the cover of a song is none."""
    moving = (stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic)
    return next(moving, None)


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The first sound track."""
    return next(iter(container.streams.audio), None)


@overload
def decode_frames(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]: ...
@overload
def decode_frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]: ...
def decode_frames(container: InputContainer, stream: AudioStream | VideoStream) -> Iterator[AudioFrame | VideoFrame]:
    """Every frame that can be decoded, from where the container stands."""
    for packet in container.demux(stream):
        yield from decode_packet(packet)


def decode_packet(packet: Packet[Any]) -> list[Any]:
    """The frames that a packet decodes to: none, if it is damaged."""
    try:
        return list(packet.decode())
    except av.error.InvalidDataError:
        return []
