"""Audio: decoded from any format, prepared for the model, written as WAV."""

from __future__ import annotations

import wave
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import av
import numpy as np
from av import AudioFormat, AudioFrame, AudioLayout, AudioResampler
from numpy.typing import NDArray

from farm.errors import InvalidInput
from farm.media.container import audio_stream, decode_frames, open_media
from farm.plan import SPEECH_RATE

LOUDNESS_LUFS = -23.0
"""Loudness of the encoder's input: European broadcasting (EBU R 128), as in InfiniteTalk."""

LOUDNESS_BLOCK_S = 0.4
"""The shortest audio that has a loudness (ITU-R BS.1770-4, the gating block)."""

MAX_LOUDNESS_LUFS = 100.0
"""A measurement beyond this means nothing (silence measures minus infinity)."""

FILTER_BLOCK = 60 * SPEECH_RATE
"""Samples that are weighted at a time when loudness is measured."""

MAX_RATE_HZ = 48_000
"""Audio is not kept at higher sample rates, which are inaudible."""

MAX_LEVEL = 2.0**31
"""Floats may be meant as integers of 32 bits; beyond that, and if not numbers, they are noise."""

SILENCE = 10 ** (-90 / 20)
"""Root mean square below which a recording holds no voice: the dither of 16 bits is at -94 dB.

A voice above it moves the mouth as any other, because the encoder equalises loudness.
"""

OPPOSITE = 0.1
"""Power of the mean of two channels, by that of the louder one, below which they cancel out.

It is 0.25 if the other channel is silent, and more unless that one is the same with other signs.
"""

STEREO_WEIGHTS = {
    "FL": (1.0, 0.0),
    "FR": (0.0, 1.0),
    "FC": (sqrt(0.5), sqrt(0.5)),
    "LFE": (0.0, 0.0),
    "BL": (sqrt(0.5), 0.0),
    "BR": (0.0, sqrt(0.5)),
    "SL": (sqrt(0.5), 0.0),
    "SR": (0.0, sqrt(0.5)),
    "BC": (0.5, 0.5),
    "FLC": (1.0, 0.0),
    "FRC": (0.0, 1.0),
}
"""Left and right share of each channel, by FFmpeg's name (ITU-R BS.775-4, table 2)."""

USUAL_CHANNELS = {
    3: "FL FR FC",
    4: "FL FR BL BR",
    5: "FL FR FC BL BR",
    6: "FL FR FC LFE BL BR",
    7: "FL FR FC LFE BC SL SR",
    8: "FL FR FC LFE BL BR SL SR",
}
"""What the channels of a file mean that gives their number only, as WAV files may."""

Samples = NDArray[np.float32]

FULL_SCALE = 2**23
"""The first sample value that 24 bits cannot hold."""

LAYOUTS = {1: "mono", 2: "stereo"}


@dataclass(frozen=True)
class Findings:
    """What is to be noticed in a recording."""

    is_silent: bool
    opposite_channels: bool
    """The channels cancel out; the model hears the louder one alone."""
    louder_channel: int
    lost_samples: int
    """Those that were not finite numbers, and are silent now."""


def findings(path: Path) -> Findings:
    """What is to be noticed in a recording; reads all of it. Raises as `decode`."""
    count = 0
    lost = 0
    # Rows are the channels and their mean.
    sums: NDArray[np.float64] | float = 0.0
    squares: NDArray[np.float64] | float = 0.0
    for block in _stereo_blocks(path):
        rows = np.vstack([block.samples, block.samples.mean(axis=0)]).astype(np.float64)
        count += rows.shape[1]
        lost += block.lost
        sums = sums + rows.sum(axis=1)
        squares = squares + np.square(rows).sum(axis=1)
    # Without the constant part, which is inaudible.
    *channels, mean = np.asarray(squares) / count - np.square(np.asarray(sums) / count)
    loudest = max(channels)
    is_silent = loudest < SILENCE**2
    return Findings(
        is_silent=bool(is_silent),
        opposite_channels=bool(not is_silent and mean < OPPOSITE * loudest),
        louder_channel=int(np.argmax(channels)),
        lost_samples=lost,
    )


def decode(path: Path) -> tuple[Samples, int]:
    """All audio of a file as float32 [C, n] in [-1, 1], and its sample rate; as `audio_blocks`.

    A truncated file is read as far as it goes. Raises InvalidInput if the file has no audio.
    """
    blocks, rates = zip(*audio_blocks(path), strict=True)
    return np.concatenate(blocks, axis=1), rates[0]


def speech(path: Path) -> Samples:
    """The audio encoder's input: float32 [n], mono, 16 kHz, at LOUDNESS_LUFS.

    Of opposite channels, which cancel out, the louder one.
    """
    # Block by block, so that hours at 48 kHz are never in memory at their own rate.
    blocks = audio_blocks(path)
    first, rate = next(blocks)
    every = chain([first], (block for block, _ in blocks))
    mono = (block.mean(axis=0) for block in every)
    if len(first) > 1:
        found = findings(path)
        if found.opposite_channels:
            mono = (block[found.louder_channel] for block in every)
    return normalise_loudness(_resample_blocks(mono, rate, SPEECH_RATE))


def resample(samples: Samples, rate: int, new_rate: int) -> Samples:
    """[n] at `rate` as [ceil(n * new_rate / rate)].

    The result is that of librosa.resample, without importing librosa.
    """
    return _resample_blocks([samples], rate, new_rate)


def _resample_blocks(blocks: Iterable[Samples], rate: int, new_rate: int) -> Samples:
    """Like `resample`, from blocks taken one by one; block boundaries make no difference."""
    import soxr

    stream = soxr.ResampleStream(rate, new_rate, 1, dtype="float32", quality="HQ")
    count = 0
    resampled = []
    for block in blocks:
        count += len(block)
        resampled.append(stream.resample_chunk(block))
    resampled.append(stream.resample_chunk(np.zeros(0, np.float32), last=True))
    length = ceil(count * (new_rate / rate))
    return _fit(np.concatenate(resampled), length)


def resample_stream(blocks: Iterable[Samples], rate: int, new_rate: int) -> Iterator[Samples]:
    """Blocks [C, k] at another rate, one by one; their boundaries make no difference."""
    import soxr

    stream = None
    for block in blocks:
        if stream is None:
            stream = soxr.ResampleStream(rate, new_rate, len(block), dtype="float32", quality="HQ")
            nothing = np.zeros((0, len(block)), np.float32)
        yield stream.resample_chunk(np.ascontiguousarray(block.T)).T
    if stream:
        yield stream.resample_chunk(nothing, last=True).T


def audio_blocks(path: Path) -> Iterator[tuple[Samples, int]]:
    """The audio block by block, as (float32 [C, k], sample rate); C and rate never change.

    It is mono or stereo, of at most MAX_RATE_HZ: more channels are mixed down by their positions,
    and attenuated as a whole if that clips anywhere. Samples that are no finite numbers are silent.
    Raises InvalidInput if there is none, or if the codec is not accepted.
    """
    blocks = _stereo_blocks(path)
    first = next(blocks)
    attenuation = np.float32(1)
    if first.is_mixed:
        peaks = (np.abs(block.samples).max(initial=0) for block in _stereo_blocks(path))
        attenuation = np.float32(max(1.0, *peaks))
    rate = min(first.rate, MAX_RATE_HZ)
    samples: Iterator[Samples]
    samples = (block.samples / attenuation for block in chain([first], blocks))
    if first.rate > rate:
        samples = resample_stream(samples, first.rate, rate)
    for each in samples:
        yield each, rate


@dataclass(frozen=True)
class _Block:
    """A block of decoded audio."""

    samples: Samples
    """[C, k], C being 1 or 2."""
    rate: int
    lost: int
    """Samples of the file that were not finite numbers."""
    is_mixed: bool
    """Whether the file has more channels."""


def _stereo_blocks(path: Path) -> Iterator[_Block]:
    """The audio of a file in mono or stereo; raises InvalidInput at the end if there is none."""
    is_empty = True
    try:
        with open_media(path) as container:
            stream = audio_stream(container)
            if stream:
                for frame in _packed_floats(decode_frames(container, stream)):
                    if frame.samples:
                        is_empty = False
                        yield _block(frame)
    except av.FFmpegError as error:
        raise InvalidInput(f"{path.name}: the audio cannot be decoded ({error})") from error
    if is_empty:
        raise InvalidInput(f"{path.name}: it has no audio")


def _block(frame: AudioFrame) -> _Block:
    """A frame of packed floats as mono or stereo."""
    # Packed, not planar: PyAV 18 reads beyond its plane pointers above eight channels.
    samples = frame.to_ndarray().reshape(frame.samples, -1).T.astype(np.float32, copy=False)
    is_sound = np.abs(samples) <= MAX_LEVEL  # not of nan either
    lost = samples.size - int(np.count_nonzero(is_sound))
    if lost:
        samples = np.where(is_sound, samples, np.float32(0))
    is_mixed = len(samples) > 2
    if is_mixed:
        samples = _stereo_weights(frame.layout) @ samples
    return _Block(samples, frame.sample_rate, lost, is_mixed)


def _stereo_weights(layout: AudioLayout) -> Samples:
    """What each of a layout's channels adds to left and right, [2, C]."""
    count = layout.nb_channels
    names = [channel.name for channel in layout.channels]
    if layout.name == f"{count} channels":
        names = USUAL_CHANNELS.get(count, "").split() or names
    unknown = (1 / count, 1 / count)
    return np.array([STEREO_WEIGHTS.get(name, unknown) for name in names], np.float32).T


def normalise_loudness(samples: Samples) -> Samples:
    """16 kHz `samples` at LOUDNESS_LUFS; unchanged if too short or too quiet to be measured."""
    import pyloudnorm

    if len(samples) < LOUDNESS_BLOCK_S * SPEECH_RATE:
        return samples
    meter = pyloudnorm.Meter(SPEECH_RATE, block_size=LOUDNESS_BLOCK_S)
    for stage in meter._filters.values():
        stage.apply_filter = partial(_apply_filter, stage)
    loudness = meter.integrated_loudness(samples)
    if not abs(loudness) <= MAX_LOUDNESS_LUFS:  # nan as well
        return samples
    gain = 10 ** ((LOUDNESS_LUFS - loudness) / 20)
    return samples * np.float32(gain)


def _apply_filter(stage: Any, samples: Samples) -> Samples:
    """Applies a filter of pyloudnorm to samples [n], in place.

    pyloudnorm's own way, all at once in float64, gives the same numbers and takes 24 bytes a
    sample: 1.4 GB for an hour.
    """
    from scipy.signal import lfilter

    state = np.zeros(max(len(stage.a), len(stage.b)) - 1)
    for start in range(0, len(samples), FILTER_BLOCK):
        block = samples[start : start + FILTER_BLOCK]
        filtered, state = lfilter(stage.b, stage.a, block, zi=state)
        block[:] = stage.passband_gain * filtered
    return samples


def write_wav(path: Path, samples: Samples, rate: int) -> None:
    """Writes `samples`, float32 [C, n] or [n] in [-1, 1], as a 16 bit WAV; louder ones clip."""
    write_wav_blocks(path, [np.atleast_2d(samples)], rate)


def write_wav_blocks(path: Path, blocks: Iterable[Samples], rate: int) -> None:
    """Like `write_wav`, from one or more blocks [C, k] that are taken one by one."""
    rest = iter(blocks)
    first = next(rest)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(first))
        file.setsampwidth(2)
        file.setframerate(rate)
        for block in chain([first], rest):
            integers = np.clip(np.round(block * 32768), -32768, 32767).astype("<i2")
            file.writeframes(np.ascontiguousarray(integers.T).tobytes())


def write_flac(path: Path, blocks: Iterable[tuple[Samples, int]]) -> None:
    """Writes blocks as `audio_blocks` yields them as FLAC of 24 bits; louder samples clip."""
    pending = iter(blocks)
    first, rate = next(pending)
    layout = LAYOUTS[len(first)]
    with av.open(path, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=rate, layout=layout)
        stream.format = AudioFormat("s32")  # of which the encoder keeps 24 bits
        for block, _ in chain([(first, rate)], pending):
            integers = np.clip(np.round(block * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
            packed = (integers.T.astype(np.int32) << 8).reshape(1, -1)
            frame = AudioFrame.from_ndarray(packed, format="s32", layout=layout)
            frame.sample_rate = rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _fit(samples: Samples, length: int) -> Samples:
    """The samples cut or padded with silence to `length`."""
    missing = length - len(samples)
    if missing > 0:
        return np.pad(samples, (0, missing))
    return samples[:length]


def _packed_floats(frames: Iterator[AudioFrame]) -> Iterator[AudioFrame]:
    """Frames of packed floats, all with the first frame's rate and channels.

    In concatenated MP3s both may change on the way.
    """
    layout = None
    rate = None
    for _, group in groupby(frames, _format):
        resampler = AudioResampler(format="flt", layout=layout, rate=rate)
        for frame in chain(group, [None]):
            if frame and rate is None:
                layout = frame.layout
                rate = frame.sample_rate
            yield from resampler.resample(frame)


def _format(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate
