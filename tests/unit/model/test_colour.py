from __future__ import annotations

import pytest
import torch
from torch import Tensor

from farm.model.colour import lab_statistics, transfer_colours


def flat(red: float, green: float, blue: float) -> Tensor:
    """One colour, components 0..1, as a picture [3, 2, 2] in [-1, 1]."""
    return torch.tensor([red, green, blue]).view(3, 1, 1).expand(3, 2, 2) * 2 - 1


def noisy(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 1.4 - 0.7


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
    ],
)
def test_lab_of_known_colours(
    rgb: tuple[float, float, float], lab: tuple[float, float, float]
) -> None:
    mean, deviation = lab_statistics(flat(*rgb))
    assert mean.tolist() == pytest.approx(lab, abs=0.02)
    assert deviation.tolist() == pytest.approx((0, 0, 0), abs=1e-3)


def test_a_picture_keeps_itself() -> None:
    frame = noisy(1, 3, 16, 16)
    moved = transfer_colours(frame[:, None], lab_statistics(frame), 1.0)
    torch.testing.assert_close(moved[:, 0], frame, rtol=0, atol=1e-4)


def test_every_frame_takes_the_references_mean_and_deviation() -> None:
    reference = lab_statistics(noisy(1, 3, 16, 16))
    moved = transfer_colours(0.6 * noisy(2, 3, 4, 16, 16) + 0.1, reference, 1.0)
    for frame in moved.unbind(1):
        torch.testing.assert_close(
            lab_statistics(frame), reference, rtol=0, atol=0.6
        )  # clipping takes a little


def test_strength_blends_in_rgb() -> None:
    frames = noisy(2, 3, 4, 16, 16)
    reference = lab_statistics(noisy(1, 3, 16, 16) * 0.5)
    none, half, full = (
        transfer_colours(frames, reference, strength) for strength in (0.0, 0.5, 1.0)
    )
    assert torch.equal(none, frames)
    torch.testing.assert_close(half, (frames + full) / 2, rtol=0, atol=1e-6)


def test_a_frame_of_one_colour_takes_the_mean_and_stays_finite() -> None:
    reference = lab_statistics(noisy(1, 3, 16, 16))
    moved = transfer_colours(torch.zeros(3, 1, 4, 4) - 1, reference, 1.0)
    assert lab_statistics(moved[:, 0])[0].tolist() == pytest.approx(reference[0].tolist(), abs=0.1)


def test_values_stay_in_range() -> None:
    moved = transfer_colours(noisy(2, 3, 4, 16, 16), lab_statistics(flat(1, 0, 0)) + 30, 1.0)
    assert moved.min() >= -1
    assert moved.max() <= 1
