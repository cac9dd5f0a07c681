"""Frames of high dynamic range, or of more colours than BT.709, as they look on an ordinary screen.

What is not brighter than paper, and no more colourful than BT.709, looks the same as before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
from av.video.reformatter import ColorPrimaries, ColorTrc
from numpy.typing import NDArray

Floats = NDArray[np.float32]

WHITE_NITS = 203.0
"""Brightness of white paper in high dynamic range (ITU-R BT.2408), and here of (255, 255, 255)."""

HLG_PEAK_NITS = 1000.0
HLG_GAMMA = 1.2
"""The nominal screen of HLG (ITU-R BT.2100-2, table 5, note 5e)."""

GAMMA = 2.4
"""The curve of an ordinary screen (ITU-R BT.1886)."""

KNEE = 0.8
"""Linear share of white from which highlights are compressed, so that none is clipped."""

TO_BT709: Mapping[int, Floats] = {
    ColorPrimaries.BT2020: np.array(
        [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
        np.float32,
    ),
    ColorPrimaries.SMPTE432: np.array(
        [[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]], np.float32
    ),
}
"""Linear RGB of BT.2020 (ITU-R BT.2087-0, annex 1) and of Display P3 as that of BT.709."""

BT2020_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)

SIGNAL_WHITE = 255 << 8
"""In 16 bits, as swscale converts YUV."""

STRIP_PIXELS = 1 << 20
"""Pixels that are converted at a time."""


def is_beyond_bt709(*, curve: int, primaries: int) -> bool:
    """Whether `to_bt709` is needed."""
    return curve in CURVES or primaries in TO_BT709


def to_bt709(rgb: NDArray[np.uint16], *, curve: int, primaries: int) -> NDArray[np.uint8]:
    """RGB [H, W, 3] of 16 bits as such of 8, by the numbers of its curve and primaries.

    FFmpeg and HEIF have those of ITU-T H.273.
    """
    rows = max(1, STRIP_PIXELS // rgb.shape[1])
    starts = range(0, len(rgb), rows)
    strips = [_strip(rgb[start : start + rows], curve, primaries) for start in starts]
    return np.concatenate(strips)


def _strip(rgb: NDArray[np.uint16], curve: int, primaries: int) -> NDArray[np.uint8]:
    light = _light(curve)[rgb]
    if curve == ColorTrc.ARIB_STD_B67:
        luminance = light @ BT2020_LUMINANCE
        light *= (luminance ** np.float32(HLG_GAMMA - 1))[..., None]
        light *= np.float32(HLG_PEAK_NITS / WHITE_NITS)
    if curve in CURVES and primaries == ColorPrimaries.UNSPECIFIED:
        primaries = ColorPrimaries.BT2020
    if primaries in TO_BT709:
        light = light @ TO_BT709[primaries].T
    light = np.maximum(light, 0)
    if curve in CURVES:
        brightest = light.max(axis=-1, keepdims=True)
        light *= _compressed(brightest) / np.maximum(brightest, np.float32(1e-6))
    return np.rint(255 * np.minimum(light, 1) ** np.float32(1 / GAMMA)).astype(np.uint8)


def _compressed(brightness: Floats) -> Floats:
    """Unchanged up to KNEE, then ever more slowly towards 1."""
    room = np.float32(1 - KNEE)
    excess = np.maximum(brightness - np.float32(KNEE), 0)
    return np.where(excess > 0, KNEE + room * (1 - np.exp(-excess / room)), brightness)


@cache
def _light(curve: int) -> Floats:
    """Linear light of each 16 bit value of a curve: 1 is white, for HLG its scene's peak."""
    signal = np.minimum(np.arange(1 << 16) / SIGNAL_WHITE, 1)
    return CURVES.get(curve, _gamma)(signal).astype(np.float32)


def _gamma(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    return signal**GAMMA


def _pq(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """ITU-R BT.2100-2, table 4."""
    c1 = 3424 / 4096
    c2 = 2413 / 128
    c3 = 2392 / 128
    power = signal ** (32 / 2523)
    nits = 10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (16384 / 2610)
    return nits / WHITE_NITS


def _hlg(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """ITU-R BT.2100-2, table 5."""
    a = 0.17883277
    b = 0.28466892
    c = 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


CURVES: Mapping[int, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    ColorTrc.SMPTE2084: _pq,
    ColorTrc.ARIB_STD_B67: _hlg,
}
"""The curves of high dynamic range."""
