"""How a face moves: lips that follow the voice, and the small movements of a living head."""

from __future__ import annotations

from dataclasses import dataclass
from math import tau

import torch
import torch.nn.functional as F
from torch import Tensor

from miniature.face import Sampler

FPS = 25


@dataclass(frozen=True)
class Pose:
    """A head at every frame, [B, F]."""

    x: Tensor
    y: Tensor
    tilt: Tensor
    """In radians."""
    lids: Tensor
    """1 is open."""
    brows: Tensor
    opening: Tensor
    """Of the mouth, 0..1."""
    spread: Tensor
    """Of the lips: -1 round, 1 wide."""

    def select(self, frames: slice) -> Pose:
        """The poses at some of the frames."""
        return Pose(**{name: each[:, frames] for name, each in vars(self).items()})


def animate(sampler: Sampler, opening: Tensor, spread: Tensor) -> Pose:
    """A head that speaks with a mouth like this, both [B, F]; it also nods, sways and blinks."""
    loudness = _smooth(opening)
    frames = opening.shape[1]
    return Pose(
        x=_sway(sampler, frames, 0.008),
        y=_sway(sampler, frames, 0.004) - 0.016 * loudness,
        tilt=_sway(sampler, frames, 0.008),
        lids=_blinks(sampler, frames),
        brows=0.03 * loudness,
        opening=opening,
        spread=spread,
    )


def sample_opening(sampler: Sampler) -> Tensor:
    """[B]: the mouth in a photograph, closed in two of five and else open up to 0.9."""
    return sampler.uniform(-0.6, 0.9).clamp(min=0)


def posed(sampler: Sampler, opening: Tensor) -> Pose:
    """A pose for a photograph, [B, 1]: eyes open, the mouth as wide as `opening` [B]."""
    zero = torch.zeros_like(opening)[:, None]
    return Pose(
        x=sampler.uniform(-0.01, 0.01)[:, None],
        y=sampler.uniform(-0.01, 0.01)[:, None],
        tilt=sampler.uniform(-0.01, 0.01)[:, None],
        lids=zero + 1,
        brows=zero,
        opening=opening[:, None],
        spread=zero,
    )


def _smooth(signal: Tensor) -> Tensor:
    """[B, F] under a window of half a second."""
    window = torch.hann_window(15, periodic=False, device=signal.device)
    padded = F.pad(signal[:, None], (7, 7), mode="replicate")
    return F.conv1d(padded, (window / window.sum())[None, None])[:, 0]


def _sway(sampler: Sampler, frames: int, amount: float) -> Tensor:
    """[B, F]: two slow waves."""
    slow = _wave(sampler, frames, 0.1, 0.25)
    faster = _wave(sampler, frames, 0.25, 0.5)
    return amount * (0.65 * slow + 0.35 * faster)


def _wave(sampler: Sampler, frames: int, low_hz: float, high_hz: float) -> Tensor:
    """[B, F]: a sine of a random frequency and phase."""
    seconds = torch.arange(frames, device=sampler.generator.device) / FPS
    hertz = sampler.uniform(low_hz, high_hz)[:, None]
    phase = sampler.uniform(0, 1)[:, None]
    return torch.sin(tau * (hertz * seconds + phase))


def _blinks(sampler: Sampler, frames: int) -> Tensor:
    """[B, F]: a lid falls and rises within a fifth of a second, every 2 to 5 seconds."""
    seconds = torch.arange(frames, device=sampler.generator.device) / FPS
    period = sampler.uniform(2, 5)[:, None]
    first = sampler.uniform(0, 5)[:, None]
    since = (seconds - first).remainder(period)
    distance = torch.minimum(since, period - since)
    return ((distance - 0.04) / 0.08).clamp(0, 1)
