"""Two speakers' recordings: as tracks of equal length for the model, and mixed for the video."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from farm.media.audio import Samples, audio_blocks, resample_stream, write_wav_blocks


def aligned_tracks(first: Samples, second: Samples, *, in_turn: bool) -> tuple[Samples, Samples]:
    """Two voices [n] and [m] as tracks of equal length: [n + m] in turn, else [max(n, m)].

    In turn, each is silent while the other speaks; in parallel, the shorter one is padded with
    silence.
    """
    if in_turn:
        return np.pad(first, (0, len(second))), np.pad(second, (len(first), 0))
    length = max(len(first), len(second))
    return np.pad(first, (0, length - len(first))), np.pad(second, (0, length - len(second)))


def mix(first: Path, second: Path, out: Path, *, in_turn: bool, seconds: float) -> None:
    """Writes both recordings to one WAV of at most `seconds`, in turn or in parallel.

    The WAV has the higher of their sample rates and the larger of their numbers of channels. In
    parallel the voices are added; if the sum clips anywhere, all of it is attenuated just enough.
    Raises InvalidInput if a recording has no audio.
    """
    paths = (first, second)
    channels, rate = _common_shape(paths)

    def mixed() -> Iterator[Samples]:
        streams = [_stream(path, channels, rate) for path in paths]
        joined = chain(*streams) if in_turn else _sum(*streams, block=rate)
        return _until(joined, round(seconds * rate))

    # Decoded twice, so that hours of audio are never in memory as a whole.
    peak = max((float(np.abs(block).max(initial=0)) for block in mixed()), default=0.0)
    attenuation = np.float32(max(1.0, peak))
    write_wav_blocks(out, (block / attenuation for block in mixed()), rate)


def _common_shape(paths: tuple[Path, Path]) -> tuple[int, int]:
    """The larger number of channels and the higher sample rate."""
    channels = []
    rates = []
    for path in paths:
        block, rate = next(audio_blocks(path))
        channels.append(len(block))
        rates.append(rate)
    return max(channels), max(rates)


def _stream(path: Path, channels: int, rate: int) -> Iterator[Samples]:
    """The blocks of a recording, [channels, k] at `rate`; mono goes left and right."""
    blocks = audio_blocks(path)
    first, own_rate = next(blocks)
    own = chain([first], (block for block, _ in blocks))
    widened = (np.repeat(block, channels // len(block), axis=0) for block in own)
    if own_rate == rate:
        return widened
    return resample_stream(widened, own_rate, rate)


def _sum(first: Iterator[Samples], second: Iterator[Samples], *, block: int) -> Iterator[Samples]:
    nothing = np.zeros((1, 0), np.float32)
    pairs = zip_longest(_reblock(first, block), _reblock(second, block), fillvalue=nothing)
    for pair in pairs:
        shorter, longer = sorted(pair, key=lambda samples: samples.shape[1])
        missing = longer.shape[1] - shorter.shape[1]
        yield longer + np.pad(shorter, ((0, 0), (0, missing)))


def _reblock(stream: Iterator[Samples], block: int) -> Iterator[Samples]:
    """The same samples in blocks of `block`; the last one holds the rest."""
    buffer = next(stream)
    # With an empty block behind it, so that a stream of a single long block is cut as well.
    for samples in chain(stream, [buffer[:, :0]]):
        buffer = np.concatenate([buffer, samples], axis=1)
        while buffer.shape[1] >= block:
            yield buffer[:, :block]
            buffer = buffer[:, block:]
    yield buffer


def _until(stream: Iterator[Samples], count: int) -> Iterator[Samples]:
    """The first `count` samples."""
    for block in stream:
        yield block[:, :count]
        count -= block.shape[1]
        if count <= 0:
            return
