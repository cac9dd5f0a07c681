"""Colour transfer: a chunk keeps the colours of the job's first image.

Each chunk continues from the end of the one before, so a small colour cast would grow. Every
frame's Lab channels get the mean and the standard deviation of the reference image (Reinhard et al.
2001, "Color Transfer between Images"). Lab is that of sRGB under D65 with the 2 degree observer;
constants as in skimage.color.
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


def lab_statistics(frame: Tensor) -> Tensor:
    """Mean and population deviation of the Lab channels, [2, 3].

    `frame` is [3, H, W] in [-1, 1].
    """
    lab = _lab(_unit(frame))
    return torch.stack([lab.mean(dim=(1, 2)), lab.std(dim=(1, 2), correction=0)])


def transfer_colours(frames: Tensor, reference: Tensor, strength: float) -> Tensor:
    """Frames whose Lab statistics are moved to `reference` [2, 3] by `strength` in 0..1.

    [3, F, H, W] in [-1, 1] in and out.
    """
    if strength == 0:
        return frames
    rgb = _unit(frames)
    lab = _lab(rgb)
    mean = lab.mean(dim=(2, 3), keepdim=True)
    deviation = lab.std(dim=(2, 3), correction=0, keepdim=True)
    wanted_mean, wanted_deviation = reference.to(frames).view(2, 3, 1, 1, 1)
    # A channel of one value has only a mean.
    normalised = torch.where(deviation > 0, (lab - mean) / deviation, 0)
    moved = _rgb(normalised * wanted_deviation + wanted_mean)
    return torch.lerp(rgb, moved, strength) * 2 - 1


def _unit(frames: Tensor) -> Tensor:
    return ((frames.float() + 1) / 2).clamp(0, 1)


def _apply_matrix(matrix: Tensor, channels: Tensor) -> Tensor:
    return torch.einsum("ij,j...->i...", matrix.to(channels), channels)


def _lab(rgb: Tensor) -> Tensor:
    """sRGB in [0, 1], channels first, to Lab."""
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz_from_rgb = torch.tensor(_XYZ_FROM_RGB)
    xyz = _apply_matrix(xyz_from_rgb / torch.tensor(_WHITE)[:, None], linear)
    root = torch.where(xyz > 0.008856, xyz.clamp(min=1e-9) ** (1 / 3), 7.787 * xyz + 16 / 116)
    lab = _apply_matrix(torch.tensor(_LAB_FROM_XYZ), root)
    lab[0] -= 16
    return lab


def _rgb(lab: Tensor) -> Tensor:
    """Lab, channels first, to sRGB clipped to [0, 1]."""
    y = (lab[0] + 16) / 116
    root = torch.stack([lab[1] / 500 + y, y, (y - lab[2] / 200).clamp(min=0)])
    xyz = torch.where(root > 0.2068966, root**3, (root - 16 / 116) / 7.787)
    rgb_from_xyz = torch.linalg.inv(torch.tensor(_XYZ_FROM_RGB))
    linear = _apply_matrix(rgb_from_xyz * torch.tensor(_WHITE), xyz)
    curved = torch.where(
        linear > 0.0031308,
        1.055 * linear.clamp(min=1e-9) ** (1 / 2.4) - 0.055,
        12.92 * linear,
    )
    return curved.clamp(0, 1)
