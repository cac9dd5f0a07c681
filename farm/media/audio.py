"""Sound: decoded from any format, turned into what the model hears, written as WAV."""

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
from av import AudioFrame, AudioResampler
from numpy.typing import NDArray

from farm.errors import InvalidInput
from farm.media.container import audio_stream, decode_frames, open_media
from farm.plan import SPEECH_RATE

LOUDNESS_LUFS = -23.0
"""How loud the encoder hears everybody: the level of European broadcasting (EBU R 128), as InfiniteTalk sets it."""

LOUDNESS_BLOCK_S = 0.4
"""The shortest sound that has a loudness (ITU-R BS.1770-4, the gating block)."""

LOUDNESS_MEANT = 100.0
"""Beyond this many LUFS a measurement says nothing (silence measures minus infinity)."""

FILTERED = 60 * SPEECH_RATE
"""Samples that are weighted at a time to measure how loud they are."""

Samples = NDArray[np.float32]


def decode(path: Path) -> tuple[Samples, int]:
    """All the sound of a file as float32 [C, n] in [-1, 1], and its rate in samples a second.

    A truncated file is read as far as it goes. Raises InvalidInput if nothing in it is sound.
    """
    parts, rates = zip(*audio_blocks(path), strict=True)
    return np.concatenate(parts, axis=1), rates[0]


def speech(path: Path) -> Samples:
    """What the audio encoder hears: float32 [n], mono, 16 kHz, as loud as LOUDNESS_LUFS."""
    # Bit by bit: hours at 48 kHz never lie in memory at their own rate.
    stereo = audio_blocks(path)
    first, rate = next(stereo)
    mono = (piece.mean(axis=0) for piece in chain([first], (piece for piece, _ in stereo)))
    return normalise_loudness(_joined(mono, rate, SPEECH_RATE))


def resample(samples: Samples, rate: int, wanted: int) -> Samples:
    """[n] at `rate` as [ceil(n * wanted / rate)] at `wanted`: the numbers of librosa.resample, without its import."""
    return _joined([samples], rate, wanted)


def _joined(track: Iterable[Samples], rate: int, wanted: int) -> Samples:
    """Like `resampled`, of pieces that are taken one by one; where they are cut makes no difference."""
    import soxr

    stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")
    count, heard = 0, []
    for piece in track:
        count += len(piece)
        heard.append(stream.resample_chunk(piece))
    heard.append(stream.resample_chunk(np.zeros(0, np.float32), last=True))
    length = ceil(count * (wanted / rate))
    return _exactly(np.concatenate(heard), length)


def audio_blocks(path: Path) -> Iterator[tuple[Samples, int]]:
    """The sound bit by bit, as (float32 [C, k], rate), where neither C nor rate changes.

    Raises InvalidInput at its end if there was none.
    """
    count = 0
    try:
        with open_media(path) as container:
            if stream := audio_stream(container):
                for piece in _as_floats(decode_frames(container, stream)):
                    # Packed, not planar: PyAV 18 reads beyond its pointers to planes where there are more than eight.
                    channels = piece.to_ndarray().reshape(piece.samples, -1).T
                    count += piece.samples
                    yield channels.astype(np.float32, copy=False), piece.sample_rate
    except av.FFmpegError as error:
        raise InvalidInput(f"{path.name}: this sound cannot be read ({error})") from error
    if not count:
        raise InvalidInput(f"{path.name}: holds no sound")


def normalise_loudness(samples: Samples) -> Samples:
    """16 kHz `samples` at LOUDNESS_LUFS; unchanged where they are too short or too quiet to be measured."""
    import pyloudnorm

    if len(samples) < LOUDNESS_BLOCK_S * SPEECH_RATE:
        return samples
    meter = pyloudnorm.Meter(SPEECH_RATE, block_size=LOUDNESS_BLOCK_S)
    for stage in meter._filters.values():
        stage.apply_filter = partial(_filtered, stage)
    loudness = meter.integrated_loudness(samples)
    if not abs(loudness) <= LOUDNESS_MEANT:
        return samples
    return samples * np.float32(10 ** ((LOUDNESS_LUFS - loudness) / 20))


def _filtered(stage: Any, samples: Samples) -> Samples:
    """What a filter of pyloudnorm's makes of samples [n], in their place.

    Its own way, all at once in float64, gives the same numbers and takes 24 bytes a sample: 1.4 GB for an hour.
    """
    from scipy.signal import lfilter

    state = np.zeros(max(len(stage.a), len(stage.b)) - 1)
    for first in range(0, len(samples), FILTERED):
        piece = samples[first : first + FILTERED]
        heard, state = lfilter(stage.b, stage.a, piece, zi=state)
        piece[:] = stage.passband_gain * heard
    return samples


def write_wav(path: Path, samples: Samples, rate: int) -> None:
    """`samples`, float32 [C, n] or [n] in [-1, 1], as a 16 bit WAV; what is louder is clipped."""
    write_wav_blocks(path, [np.atleast_2d(samples)], rate)


def write_wav_blocks(path: Path, track: Iterable[Samples], rate: int) -> None:
    """Like `write_wav`, of one or more pieces [C, k], which are taken one by one."""
    rest = iter(track)
    first = next(rest)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(first))
        file.setsampwidth(2)
        file.setframerate(rate)
        for piece in chain([first], rest):
            whole = np.clip(np.round(piece * 32768), -32768, 32767).astype("<i2")
            file.writeframes(np.ascontiguousarray(whole.T).tobytes())


def _exactly(samples: Samples, length: int) -> Samples:
    missing = length - len(samples)
    return np.pad(samples, (0, missing)) if missing > 0 else samples[:length]


def _as_floats(frames: Iterator[AudioFrame]) -> Iterator[AudioFrame]:
    """Packed floats, all with the first frame's rate and channels: in MP3s that were glued together both change."""
    layout, rate = None, None
    for _, alike in groupby(frames, lambda frame: (frame.format.name, frame.layout.name, frame.sample_rate)):
        resampler = AudioResampler(format="flt", layout=layout, rate=rate)
        for frame in chain(alike, [None]):
            if frame and rate is None:
                layout, rate = frame.layout, frame.sample_rate
            yield from resampler.resample(frame)
