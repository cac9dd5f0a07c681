"""Audio: decoded from any format, prepared for the model, written as WAV."""

from __future__ import annotations

import wave
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, groupby
from math import ceil
from pathlib import Path
from typing import Any

import av
import numpy as np
from av import AudioFormat, AudioFrame, AudioResampler
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

Samples = NDArray[np.float32]

FULL_SCALE = 2**23
"""The first sample value that 24 bits cannot hold."""

LAYOUTS = {1: "mono", 2: "stereo"}


def decode(path: Path) -> tuple[Samples, int]:
    """All audio of a file as float32 [C, n] in [-1, 1], and its sample rate in Hz.

    A truncated file is read as far as it goes. Raises InvalidInput if the file has no audio.
    """
    blocks, rates = zip(*audio_blocks(path), strict=True)
    return np.concatenate(blocks, axis=1), rates[0]


def speech(path: Path) -> Samples:
    """The audio encoder's input: float32 [n], mono, 16 kHz, at LOUDNESS_LUFS."""
    # Block by block, so that hours at 48 kHz are never in memory at their own rate.
    blocks = audio_blocks(path)
    first, rate = next(blocks)
    rest = (block for block, _ in blocks)
    mono = (block.mean(axis=0) for block in chain([first], rest))
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


def audio_blocks(path: Path, *, stereo: bool = False) -> Iterator[tuple[Samples, int]]:
    """The audio block by block, as (float32 [C, k], sample rate); C and rate never change.

    With `stereo`, more than two channels are mixed down to two as players do. Raises InvalidInput
    at the end if there was none.
    """
    count = 0
    try:
        with open_media(path) as container:
            stream = audio_stream(container)
            if stream:
                frames = decode_frames(container, stream)
                for frame in _packed_floats(frames, stereo=stereo):
                    count += frame.samples
                    yield _channels(frame), frame.sample_rate
    except av.FFmpegError as error:
        raise InvalidInput(f"{path.name}: the audio cannot be decoded ({error})") from error
    if not count:
        raise InvalidInput(f"{path.name}: it has no audio")


def _channels(frame: AudioFrame) -> Samples:
    """A frame of packed floats as [C, k]."""
    # Packed, not planar: PyAV 18 reads beyond its plane pointers above eight channels.
    channels = frame.to_ndarray().reshape(frame.samples, -1).T
    return channels.astype(np.float32, copy=False)


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
    layout = LAYOUTS.get(len(first), f"{len(first)} channels")
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


def _packed_floats(frames: Iterator[AudioFrame], *, stereo: bool) -> Iterator[AudioFrame]:
    """Frames of packed floats, all with the first frame's rate and channels, or two of them.

    In concatenated MP3s both may change on the way.
    """
    first = next(frames, None)
    if first is None:
        return
    is_mixed_down = stereo and first.layout.nb_channels > 2
    layout = "stereo" if is_mixed_down else first.layout
    for _, group in groupby(chain([first], frames), _format):
        resampler = AudioResampler(format="flt", layout=layout, rate=first.sample_rate)
        for frame in chain(group, [None]):
            yield from resampler.resample(frame)


def _format(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate
