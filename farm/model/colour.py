"""Colour transfer: a chunk keeps the colours of the job's first picture.

Chunks are made one from the end of the other, so a small cast would grow. Every frame's Lab channels get the mean and
the deviation of the reference picture. Lab is that of sRGB under D65 with the 2 degree observer.
"""

from __future__ import annotations

import torch
from torch import Tensor

_XYZ_FROM_RGB = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)
_LAB_FROM_XYZ = ((0.0, 116.0, 0.0), (500.0, -500.0, 0.0), (0.0, 200.0, -200.0))


def statistics(frame: Tensor) -> Tensor:
    """[3, H, W] in [-1, 1] in; [2, 3] out: mean and population deviation of the Lab channels."""
    lab = _lab(_unit(frame))
    return torch.stack([lab.mean(dim=(1, 2)), lab.std(dim=(1, 2), correction=0)])


def transfer(frames: Tensor, reference: Tensor, strength: float) -> Tensor:
    """[3, F, H, W] in [-1, 1] in and out, every frame moved to `reference` [2, 3] by `strength` in 0..1."""
    if strength == 0:
        return frames
    rgb = _unit(frames)
    lab = _lab(rgb)
    mean = lab.mean(dim=(2, 3), keepdim=True)
    deviation = lab.std(dim=(2, 3), correction=0, keepdim=True)
    wanted_mean, wanted_deviation = reference.to(frames).view(2, 3, 1, 1, 1)
    even = torch.where(deviation > 0, (lab - mean) / deviation, 0)  # a flat channel has only a mean
    moved = _rgb(even * wanted_deviation + wanted_mean)
    return torch.lerp(rgb, moved, strength) * 2 - 1


def _unit(frames: Tensor) -> Tensor:
    return ((frames.float() + 1) / 2).clamp(0, 1)


def _mixed(matrix: Tensor, channels: Tensor) -> Tensor:
    return torch.einsum("ij,j...->i...", matrix.to(channels), channels)


def _lab(rgb: Tensor) -> Tensor:
    """sRGB in [0, 1], channels first, to Lab."""
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = _mixed(torch.tensor(_XYZ_FROM_RGB) / torch.tensor(_WHITE)[:, None], linear)
    root = torch.where(xyz > 0.008856, xyz.clamp(min=1e-9) ** (1 / 3), 7.787 * xyz + 16 / 116)
    lab = _mixed(torch.tensor(_LAB_FROM_XYZ), root)
    lab[0] -= 16
    return lab


def _rgb(lab: Tensor) -> Tensor:
    """Lab, channels first, to sRGB clipped to [0, 1]."""
    y = (lab[0] + 16) / 116
    root = torch.stack([lab[1] / 500 + y, y, (y - lab[2] / 200).clamp(min=0)])
    xyz = torch.where(root > 0.2068966, root**3, (root - 16 / 116) / 7.787)
    linear = _mixed(torch.linalg.inv(torch.tensor(_XYZ_FROM_RGB)) * torch.tensor(_WHITE), xyz)
    curved = torch.where(
        linear > 0.0031308,
        1.055 * linear.clamp(min=1e-9) ** (1 / 2.4) - 0.055,
        12.92 * linear,
    )
    return curved.clamp(0, 1)
