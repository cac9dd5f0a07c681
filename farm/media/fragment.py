"""A chunk as a player takes it while the video grows: fragmented MP4 (ISO 14496-12) on the whole video's clock."""

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
from farm.media.aac import PACKET, RATE, first_packet
from farm.media.container import audio_stream, open_media, video_stream
from farm.plan import FPS

# With the index delayed until there are packets, an edit list in it tells players to skip the sound's priming.
MOVFLAGS = "delay_moov+frag_custom+default_base_moof+skip_trailer"

PARENTS = (b"moov", b"trak", b"mdia", b"moof", b"traf")


def fragment(pictures: Path, sound: Sequence[bytes], *, index: int, first: int) -> tuple[bytes, bytes]:
    """What a player reads once, and the segment: the pictures of a video file, copied, with packets of AAC in ADTS.

    `index` counts the chunks, `first` is the frame of the whole video with which this one begins; its times go on from
    there. `sound` begins with the packet `first_packet(first)`. Raises FFmpegFailed.
    """
    try:
        made = _muxed(pictures, b"".join(sound))
    except (av.FFmpegError, ValueError) as error:
        raise FFmpegFailed(f"{pictures.name}: it could not become a segment ({error})") from error
    _forget_bitrate(made)
    _set_clock(made, index=index, first=first)
    begin = next(start for kind, start in _boxes(made) if kind == b"moof") - 8
    return bytes(made[:begin]), bytes(made[begin:])


def _muxed(pictures: Path, sound: bytes) -> bytearray:
    """Both as one fragment whose pictures begin at time zero, and whose sound one packet earlier.

    So every chunk's index is the same, whatever its place in the video.
    """
    out = BytesIO()
    options = {"movflags": MOVFLAGS, "write_btrt": "0", "fflags": "+bitexact"}
    with open_media(pictures) as shown, av.open(BytesIO(sound), "r", format="aac") as spoken:
        picture, voice = video_stream(shown), audio_stream(spoken)
        if picture is None or voice is None:
            raise ValueError("pictures or sound are missing")
        bare = BitStreamFilterContext("aac_adtstoasc", voice)
        with av.open(out, "w", format="mp4", options=options) as file:
            streams = file.add_stream_from_template(picture), file.add_stream_from_template(voice)
            _copy(_filled(shown.demux(picture)), file, streams[0], tick=Fraction(1, FPS), start=0)
            stripped = (each for packet in _filled(spoken.demux(voice)) for each in bare.filter(packet))
            _copy(stripped, file, streams[1], tick=Fraction(PACKET, RATE), start=-1)
    return bytearray(out.getvalue())


def _filled(packets: Iterable[Packet[Any]]) -> Iterator[Packet[Any]]:
    """Without the empty one that ends a stream."""
    return (packet for packet in packets if packet.size)


def _copy(packets: Iterable[Packet[Any]], file: OutputContainer, stream: Stream, *, tick: Fraction, start: int) -> None:
    """Packets, each `tick` seconds long, one behind the other from tick number `start` on."""
    for number, packet in enumerate(packets, start=start):
        packet.time_base, packet.pts, packet.dts, packet.duration = tick, number, number, 1
        packet.stream = stream
        file.mux(packet)


def _forget_bitrate(made: bytearray) -> None:
    """Zero, which is unknown, for the chunk's own bit rates: a player reads them once, for all chunks."""
    # 22 bytes into the box, by ISO 14496-1, 7.2.6.5 and 7.2.6.6: the largest one and the average.
    struct.pack_into(">II", made, made.index(b"esds") + 4 + 22, 0, 0)


def _set_clock(made: bytearray, *, index: int, first: int) -> None:
    """Puts the fragment at its place in the whole video: its number and its tracks' times."""
    boxes = list(_boxes(made))
    # Behind version, flags and two dates of 32 bits there are the ticks of a second.
    scales = [struct.unpack_from(">I", made, start + 12)[0] for kind, start in boxes if kind == b"mdhd"]
    clocks = [start + 4 for kind, start in boxes if kind == b"tfdt"]
    begins = (Fraction(first, FPS), Fraction(first_packet(first) * PACKET, RATE))
    for clock, scale, begin in zip(clocks, scales, begins, strict=True):
        struct.pack_into(">Q", made, clock, int(begin * scale))
    (number,) = (start + 4 for kind, start in boxes if kind == b"mfhd")
    struct.pack_into(">I", made, number, index + 1)


def _boxes(content: bytearray, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int]]:
    """Every box's kind and where its content starts, parents before their children."""
    end = len(content) if end is None else end
    while start < end:
        size, kind = struct.unpack_from(">I4s", content, start)
        yield kind, start + 8
        if kind in PARENTS:
            yield from _boxes(content, start + 8, start + size)
        start += size
