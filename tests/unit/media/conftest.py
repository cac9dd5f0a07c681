"""Audio and video that the media tests generate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from farm.media.audio import write_wav


def tone(seconds: float, rate: int, channels: int = 1, level: float = 0.3) -> NDArray[np.float32]:
    """A sine of 440 Hz, float32 [C, n]."""
    wave = level * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    return np.tile(wave.astype(np.float32), (channels, 1))


@pytest.fixture
def make_wav(tmp_path: Path) -> Callable[..., Path]:
    def make(
        seconds: float = 1.0, rate: int = 44_100, channels: int = 1, level: float = 0.3
    ) -> Path:
        path = tmp_path / f"tone-{seconds}-{rate}-{channels}-{level}.wav"
        write_wav(path, tone(seconds, rate, channels, level), rate)
        return path

    return make


@pytest.fixture
def counting() -> Callable[..., list[NDArray[np.uint8]]]:
    """Up to 256 frames of 64 x 48, each showing its number in binary: white stripes are ones."""

    def make(count: int) -> list[NDArray[np.uint8]]:
        bits = np.unpackbits(np.arange(count, dtype=np.uint8)[:, None], axis=1) * 255
        return list(np.tile(np.repeat(bits, 8, axis=1)[:, None, :, None], (1, 48, 1, 3)))

    return make
