"""How a face moves: lips that follow the voice, and the rest that a living head does by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from miniature.face import Dice

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

    def at(self, frames: slice) -> Pose:
        """The poses at some of the frames."""
        return Pose(**{name: each[:, frames] for name, each in vars(self).items()})


def acted(dice: Dice, opening: Tensor, spread: Tensor) -> Pose:
    """What a head does while its mouth says this, both [B, F]: it nods with the loudness, sways slowly and blinks."""
    loudness = _smoothed(opening)
    return Pose(
        x=_sway(dice, opening.shape[1], 0.008),
        y=_sway(dice, opening.shape[1], 0.004) - 0.016 * loudness,
        tilt=_sway(dice, opening.shape[1], 0.008),
        lids=_blinks(dice, opening.shape[1]),
        brows=0.03 * loudness,
        opening=opening,
        spread=spread,
    )


def still(dice: Dice, opening: Tensor) -> Pose:
    """A pose to be photographed in, [B, 1]: eyes open, the mouth as wide as `opening` [B]."""
    zero = torch.zeros_like(opening)[:, None]
    x, y, tilt = (dice.between(-0.01, 0.01)[:, None] for _ in range(3))
    return Pose(
        x=x,
        y=y,
        tilt=tilt,
        lids=zero + 1,
        brows=zero,
        opening=opening[:, None],
        spread=zero,
    )


def _smoothed(signal: Tensor) -> Tensor:
    """[B, F] under a window of half a second."""
    window = torch.hann_window(15, periodic=False, device=signal.device)
    padded = F.pad(signal[:, None], (7, 7), mode="replicate")
    return F.conv1d(padded, (window / window.sum())[None, None])[:, 0]


def _sway(dice: Dice, frames: int, amount: float) -> Tensor:
    """[B, F]: two slow waves."""
    seconds = torch.arange(frames, device=dice.generator.device) / FPS
    waves = [
        torch.sin(6.283 * (dice.between(*hertz)[:, None] * seconds + dice.between(0, 1)[:, None]))
        for hertz in ((0.1, 0.25), (0.25, 0.5))
    ]
    return amount * (0.65 * waves[0] + 0.35 * waves[1])


def _blinks(dice: Dice, frames: int) -> Tensor:
    """[B, F]: a lid falls and rises within a fifth of a second, every 2 to 5 seconds."""
    seconds = torch.arange(frames, device=dice.generator.device) / FPS
    every = dice.between(2, 5)[:, None]
    first = dice.between(0, 5)[:, None]
    since = (seconds - first).remainder(every)
    distance = torch.minimum(since, every - since)
    return ((distance - 0.04) / 0.08).clamp(0, 1)
