"""The soundtrack of a growing video: one AAC track, split between packets where chunks meet.

The pieces play without a click or drift, because they are one stream to every decoder. Audio that
is encoded chunk by chunk would not, since each AAC packet overlaps the one before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path

import ffmpeg

from farm.media.ffmpeg import (
    AAC,
    AAC_KBPS_PER_CHANNEL,
    REPRODUCIBLE,
    audio_input,
    open_audio,
    run_ffmpeg,
)
from farm.plan import FPS

SAMPLE_RATE_HZ = 48_000
"""Supported by every player; a packet is then shorter than a frame, so every chunk has some."""

PACKET_SAMPLES = 1024
"""Samples that a packet of AAC-LC adds (ISO 14496-3, 4.5.2.1.1)."""

PRIMING_SAMPLES = PACKET_SAMPLES
"""Samples of silence that the encoder inserts first, so that its first packet can overlap."""

ADTS_HEADER_BYTES = 7
"""Bytes of an ADTS header without a checksum (ISO 13818-7, 6.2)."""


def write_track(audio: Path, path: Path, *, frames: int) -> None:
    """Encodes audio as AAC in ADTS at 48 kHz, padded or cut to `frames` / 25 s.

    The same audio yields the same bytes. Raises FFmpegFailed; InvalidInput without any audio.
    """
    channels, rate, blocks = open_audio(audio)
    options = {
        **AAC,
        "b:a": f"{AAC_KBPS_PER_CHANNEL * channels}k",
        "ar": SAMPLE_RATE_HZ,
        "ac": channels,
        **REPRODUCIBLE,
    }
    stream = audio_input(channels, rate, frames / FPS)
    command = ffmpeg.output(stream, str(path.resolve()), format="adts", **options)
    run_ffmpeg(command, blocks, task="encode the audio")


def first_packet(frame: int) -> int:
    """The first packet that starts at or after a frame's time; for frame 0 the priming packet."""
    if frame == 0:
        return 0
    return ceil((frame * SAMPLE_RATE_HZ / FPS + PRIMING_SAMPLES) / PACKET_SAMPLES)


def packets(path: Path) -> Iterator[bytes]:
    """The packets of an ADTS file, each with its header."""
    with path.open("rb") as file:
        while True:
            header = file.read(ADTS_HEADER_BYTES)
            if len(header) < ADTS_HEADER_BYTES:
                return
            length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
            yield header + file.read(length - ADTS_HEADER_BYTES)


def split_track(path: Path, starts: Sequence[int]) -> Iterator[bytes]:
    """A track in pieces that begin with the first packets of the frames `starts`.

    `starts` ascends from 0.
    """
    firsts = {first_packet(start) for start in starts}
    piece: list[bytes] = []
    for number, packet in enumerate(packets(path)):
        if number in firsts and piece:
            yield b"".join(piece)
            piece.clear()
        piece.append(packet)
    yield b"".join(piece)
