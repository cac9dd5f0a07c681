"""Whether lips follow a voice and a face stays itself: numbers read from frames.

Frames are [3, F, H, W] and pictures [3, H, W], in [-1, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor


def mouth(frames: Tensor, closed: Tensor, wide: Tensor, box: Tensor) -> Tensor:
    """How far the mouth in `box` [H, W] is open, [F]: 0 as in the picture `closed`, 1 as in `wide`.

    The frames' share of the difference between the two pictures: a matched filter.
    """
    way = (wide - closed) * box
    gone = (frames - closed[:, None]) * box
    return (gone * way[:, None]).sum((0, 2, 3)) / way.square().sum()


def correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's, of two signals [F]; 0 where one of them stands still."""
    one = one - one.mean()
    other = other - other.mean()
    return float((one * other).sum() / (one.norm() * other.norm()).clamp(min=1e-9))


def lag(seen: Tensor, said: Tensor, reach: int = 6) -> int:
    """By how many frames `seen` comes after `said`, -reach..reach, where they agree best."""
    frames = len(seen)
    shifted = {
        by: correlation(
            seen[max(0, by) : frames + min(0, by)],
            said[max(0, -by) : frames - max(0, by)],
        )
        for by in range(-reach, reach + 1)
    }
    return max(shifted, key=lambda by: (shifted[by], -abs(by)))


def likeness(frames: Tensor, picture: Tensor, where: Tensor) -> Tensor:
    """The peak signal-to-noise ratio of each frame against the picture, [F] in dB, in `where` [H, W] alone."""
    square = (frames - picture[:, None]).square().mean(0) * where
    return -10 * torch.log10((square.sum((1, 2)) / where.sum() / 4).clamp(min=1e-9))


def drift(frames: Tensor, picture: Tensor, where: Tensor) -> float:
    """How far the mean colour in `where` has gone from the picture's, as a share of full scale: the worst channel's."""
    mean = (frames.mean(1) * where).sum((1, 2)) / where.sum()
    wanted = (picture * where).sum((1, 2)) / where.sum()
    return float((mean - wanted).abs().max() / 2)


def darkness(frames: Tensor, box: Tensor) -> Tensor:
    """How dark it is in `box` [H, W], [F] from -1 to 1: an open mouth is, however it is drawn."""
    return -(frames.mean(0) * box).sum((1, 2)) / box.sum()
