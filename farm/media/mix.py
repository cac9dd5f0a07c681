"""Two speakers' recordings: as tracks of one length for the model, as one sound for the video."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from farm.media.audio import Samples, audio_blocks, write_wav_blocks


def aligned_tracks(first: Samples, second: Samples, *, in_turn: bool) -> tuple[Samples, Samples]:
    """Two voices [n] and [m] as two of one length: [n + m] in turn, else [max(n, m)].

    Each is silent while the other speaks in turn; together, the shorter one is followed by silence.
    """
    if in_turn:
        return np.pad(first, (0, len(second))), np.pad(second, (len(first), 0))
    length = max(len(first), len(second))
    return np.pad(first, (0, length - len(first))), np.pad(second, (0, length - len(second)))


def mix(first: Path, second: Path, out: Path, *, in_turn: bool, seconds: float) -> None:
    """Both recordings as one WAV, `seconds` long at most: one after the other, or together.

    It has the higher of their rates and as many channels as the richer of them. Two voices together are added up, and
    where that would clip anywhere, the whole is turned down by just so much. Raises InvalidInput if one has no sound.
    """
    shapes = [(len(piece), rate) for piece, rate in (next(audio_blocks(path)) for path in (first, second))]
    channels, rate = (max(each) for each in zip(*shapes, strict=True))

    def mixed() -> Iterator[Samples]:
        streams = [_stream(path, channels, rate) for path in (first, second)]
        return _until(chain(*streams) if in_turn else _sum(*streams, block=rate), round(seconds * rate))

    # Read twice: hours of sound are never in memory as a whole.
    loudest = max((float(np.abs(piece).max(initial=0)) for piece in mixed()), default=0.0)
    write_wav_blocks(out, (piece / np.float32(max(1.0, loudest)) for piece in mixed()), rate)


def _stream(path: Path, channels: int, rate: int) -> Iterator[Samples]:
    """A recording bit by bit, [channels, k] at `rate`."""
    import soxr

    converter = None
    for piece, own in audio_blocks(path):
        if own == rate:
            yield _spread(piece, channels)
            continue
        converter = converter or soxr.ResampleStream(own, rate, channels, dtype="float32", quality="HQ")
        yield converter.resample_chunk(np.ascontiguousarray(_spread(piece, channels).T)).T
    if converter:
        yield converter.resample_chunk(np.zeros((0, channels), np.float32), last=True).T


def _spread(piece: Samples, channels: int) -> Samples:
    """[C, k] over more channels: a single one is heard left and right, several keep their places."""
    if len(piece) == 1 and channels > 1:
        piece = np.repeat(piece, 2, axis=0)
    return np.pad(piece, ((0, channels - len(piece)), (0, 0)))


def _sum(first: Iterator[Samples], second: Iterator[Samples], *, block: int) -> Iterator[Samples]:
    nothing = np.zeros((1, 0), np.float32)
    for pair in zip_longest(_blocks(first, block), _blocks(second, block), fillvalue=nothing):
        shorter, longer = sorted(pair, key=lambda piece: piece.shape[1])
        yield longer + np.pad(shorter, ((0, 0), (0, longer.shape[1] - shorter.shape[1])))


def _blocks(stream: Iterator[Samples], block: int) -> Iterator[Samples]:
    """The same samples in pieces of `block`; the last one holds the rest."""
    waiting = next(stream)
    for piece in stream:
        waiting = np.concatenate([waiting, piece], axis=1)
        while waiting.shape[1] >= block:
            yield waiting[:, :block]
            waiting = waiting[:, block:]
    yield waiting


def _until(stream: Iterator[Samples], count: int) -> Iterator[Samples]:
    for piece in stream:
        yield piece[:, :count]
        count -= piece.shape[1]
        if count <= 0:
            return
