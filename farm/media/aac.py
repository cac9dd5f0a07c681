"""The sound of the video that grows: one AAC track, encoded at a stretch and cut between packets where chunks meet.

Cut so, the pieces play on without a click or a drift, since they are one stream for every decoder; encoded chunk by
chunk they would not be, because each packet of AAC overlaps the one before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path

import ffmpeg

from farm.media.ffmpeg import AAC_KBPS_PER_CHANNEL, REPRODUCIBLE, audio_input, open_audio, run_ffmpeg
from farm.plan import FPS

RATE = 48_000
"""Every player has it, and a packet is then shorter than a frame: no chunk is without one."""

PACKET = 1024
"""Samples that a packet of AAC-LC adds (ISO 14496-3, 4.5.2.1.1)."""

PRIMING = PACKET
"""Samples of silence that the encoder puts in front, so that its first packet has something to overlap."""

HEADER = 7
"""Bytes of an ADTS header without a checksum (ISO 13818-7, 6.2)."""


def write_track(sound: Path, path: Path, *, frames: int) -> None:
    """The sound at `path`, as AAC in ADTS, 48 kHz, mono or stereo, `frames` / 25 s long; silence fills what it lacks.

    The same sound makes the same bytes. Raises FFmpegFailed; InvalidInput without any sound.
    """
    channels, rate, pieces = open_audio(sound)
    kept = min(channels, 2)
    options = {"c:a": "aac", "b:a": f"{AAC_KBPS_PER_CHANNEL * kept}k", "ar": RATE, "ac": kept, **REPRODUCIBLE}
    track = ffmpeg.output(audio_input(channels, rate, frames / FPS), str(path.resolve()), format="adts", **options)
    run_ffmpeg(track, pieces, task="encode the sound")


def first_packet(frame: int) -> int:
    """The number of the first packet that begins to be heard when a frame is shown, or after; 0 primes the decoder."""
    return ceil((frame * RATE / FPS + PRIMING) / PACKET) if frame else 0


def packets(path: Path) -> Iterator[bytes]:
    """The packets of an ADTS file one by one, each with its header."""
    with path.open("rb") as file:
        while len(header := file.read(HEADER)) == HEADER:
            length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
            yield header + file.read(length - HEADER)


def split_track(path: Path, starts: Sequence[int]) -> Iterator[bytes]:
    """A track in pieces: each begins with the first packet of one of the rising frames `starts`, of which one is 0."""
    firsts = {first_packet(start) for start in starts}
    piece: list[bytes] = []
    for number, packet in enumerate(packets(path)):
        if number in firsts and piece:
            yield b"".join(piece)
            piece.clear()
        piece.append(packet)
    yield b"".join(piece)
