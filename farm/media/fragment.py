"""A chunk as a player loads it while the video grows.

It is fragmented MP4 (ISO 14496-12) on the whole video's clock.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
from av import Packet
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.stream import Stream

from farm.errors import FFmpegFailed
from farm.media.aac import PACKET_SAMPLES, SAMPLE_RATE_HZ, first_packet
from farm.media.container import audio_stream, open_media, video_stream
from farm.plan import FPS

# With the index delayed until there are packets, its edit list makes players skip the priming.
MOVFLAGS = "delay_moov+frag_custom+default_base_moof+skip_trailer"

PARENTS = (b"moov", b"trak", b"mdia", b"moof", b"traf")
"""Boxes that contain the boxes we change."""

BOX_HEADER = 8
"""Bytes of a box's size and kind."""

FULL_BOX_HEADER = 4
"""Bytes of version and flags, before the content of mfhd, tfdt and mdhd (ISO 14496-12)."""

TIMESCALE_OFFSET = 12
"""Bytes of version, flags and two 32 bit dates before the ticks per second in mdhd."""

BITRATES_OFFSET = 4 + 22
"""Bytes from the name of the esds box to its two bit rates (ISO 14496-1, 7.2.6.5 and 7.2.6.6)."""


def mux_segment(
    video: Path, audio: Sequence[bytes], *, index: int, first: int
) -> tuple[bytes, bytes]:
    """The initialisation section and the media segment of a chunk.

    The frames of a video file are copied, with AAC packets in ADTS that begin with packet
    `first_packet(first)`. `index` counts the chunks; `first` is the frame of the whole video at
    which this one begins, and where its timestamps start. Raises FFmpegFailed.
    """
    try:
        content = _mux(video, b"".join(audio))
    except (av.FFmpegError, ValueError) as error:
        raise FFmpegFailed(f"{video.name}: it could not become a segment ({error})") from error
    _clear_bitrates(content)
    _set_clock(content, index=index, first=first)
    starts = (start for kind, start in _boxes(content) if kind == b"moof")
    begin = next(starts) - BOX_HEADER
    return bytes(content[:begin]), bytes(content[begin:])


def _mux(video: Path, audio: bytes) -> bytearray:
    """Both as one fragment, with video from time zero and audio one packet earlier.

    Every chunk then has the same index, wherever it is in the video.
    """
    out = BytesIO()
    options = {"movflags": MOVFLAGS, "write_btrt": "0", "fflags": "+bitexact"}
    with open_media(video) as source, av.open(BytesIO(audio), "r", format="aac") as track:
        video_in = video_stream(source)
        audio_in = audio_stream(track)
        if video_in is None or audio_in is None:
            raise ValueError("video or audio is missing")
        without_adts = BitStreamFilterContext("aac_adtstoasc", audio_in)
        with av.open(out, "w", format="mp4", options=options) as file:
            video_out = file.add_stream_from_template(video_in)
            audio_out = file.add_stream_from_template(audio_in)
            video_packets = _not_empty(source.demux(video_in))
            _copy(video_packets, file, video_out, tick=Fraction(1, FPS), start=0)
            audio_packets = (
                each
                for packet in _not_empty(track.demux(audio_in))
                for each in without_adts.filter(packet)
            )
            audio_tick = Fraction(PACKET_SAMPLES, SAMPLE_RATE_HZ)
            _copy(audio_packets, file, audio_out, tick=audio_tick, start=-1)
    return bytearray(out.getvalue())


def _not_empty(packets: Iterable[Packet[Any]]) -> Iterator[Packet[Any]]:
    """The packets without the empty one that ends a stream."""
    return (packet for packet in packets if packet.size)


def _copy(
    packets: Iterable[Packet[Any]],
    file: OutputContainer,
    stream: Stream,
    *,
    tick: Fraction,
    start: int,
) -> None:
    """Copies packets that last `tick` seconds each, the first at tick number `start`."""
    for number, packet in enumerate(packets, start=start):
        packet.time_base = tick
        packet.pts = number
        packet.dts = number
        packet.duration = 1
        packet.stream = stream
        file.mux(packet)


def _clear_bitrates(content: bytearray) -> None:
    """Sets the chunk's maximum and average bit rate to 0, unknown.

    A player reads them once, for all chunks.
    """
    struct.pack_into(">II", content, content.index(b"esds") + BITRATES_OFFSET, 0, 0)


def _set_clock(content: bytearray, *, index: int, first: int) -> None:
    """Sets the fragment's number and its tracks' times to its position in the whole video."""
    boxes = list(_boxes(content))
    timescales = [start + TIMESCALE_OFFSET for kind, start in boxes if kind == b"mdhd"]
    clocks = [start + FULL_BOX_HEADER for kind, start in boxes if kind == b"tfdt"]
    video_start = Fraction(first, FPS)
    audio_start = Fraction(first_packet(first) * PACKET_SAMPLES, SAMPLE_RATE_HZ)
    starts = (video_start, audio_start)
    for timescale, clock, start_s in zip(timescales, clocks, starts, strict=True):
        (ticks_per_second,) = struct.unpack_from(">I", content, timescale)
        struct.pack_into(">Q", content, clock, int(start_s * ticks_per_second))
    (number,) = (start + FULL_BOX_HEADER for kind, start in boxes if kind == b"mfhd")
    struct.pack_into(">I", content, number, index + 1)


def _boxes(
    content: bytearray, start: int = 0, end: int | None = None
) -> Iterator[tuple[bytes, int]]:
    """The kind of every box and the start of its content, parents before their children."""
    if end is None:
        end = len(content)
    while start < end:
        size, kind = struct.unpack_from(">I4s", content, start)
        yield kind, start + BOX_HEADER
        if kind in PARENTS:
            yield from _boxes(content, start + BOX_HEADER, start + size)
        start += size
