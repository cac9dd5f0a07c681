"""Whether lips follow a voice and a face stays the same: numbers measured in frames.

Frames are [3, F, H, W] and pictures [3, H, W], in [-1, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor


def mouth_opening(frames: Tensor, closed: Tensor, wide: Tensor, box: Tensor) -> Tensor:
    """The opening of the mouth in `box` [H, W], [F]: 0 as in the picture `closed`, 1 as in `wide`.

    A matched filter: the frames' share of the difference between the two pictures.
    """
    pattern = (wide - closed) * box
    change = (frames - closed[:, None]) * box
    return (change * pattern[:, None]).sum((0, 2, 3)) / pattern.square().sum()


def correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's, of two signals [F]; 0 where one of them is constant."""
    one = one - one.mean()
    other = other - other.mean()
    return float((one * other).sum() / (one.norm() * other.norm()).clamp(min=1e-9))


def lag(seen: Tensor, openings: Tensor, reach: int = 6) -> int:
    """The delay of `seen` after `openings` in frames, -reach..reach, with the best correlation."""
    frames = len(seen)
    correlations = {}
    for delay in range(-reach, reach + 1):
        late = seen[max(0, delay) : frames + min(0, delay)]
        early = openings[max(0, -delay) : frames - max(0, delay)]
        correlations[delay] = correlation(late, early)
    return max(correlations, key=lambda delay: (correlations[delay], -abs(delay)))


def psnr(frames: Tensor, picture: Tensor, area: Tensor) -> Tensor:
    """The peak signal-to-noise ratio of each frame in `area` [H, W], against the picture.

    [F] in dB.
    """
    square = (frames - picture[:, None]).square().mean(0) * area
    # Full scale is 2, and its square 4.
    error = square.sum((1, 2)) / area.sum() / 4
    return -10 * torch.log10(error.clamp(min=1e-9))


def colour_drift(frames: Tensor, picture: Tensor, area: Tensor) -> float:
    """The difference of the mean colour in `area` [H, W] from the picture's.

    That of the worst channel, as a share of full scale.
    """
    mean = (frames.mean(1) * area).sum((1, 2)) / area.sum()
    expected = (picture * area).sum((1, 2)) / area.sum()
    return float((mean - expected).abs().max() / 2)


def darkness(frames: Tensor, box: Tensor) -> Tensor:
    """The darkness in `box` [H, W], [F] from -1 to 1: an open mouth is dark in any style."""
    return -(frames.mean(0) * box).sum((1, 2)) / box.sum()
