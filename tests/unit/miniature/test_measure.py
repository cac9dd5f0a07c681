"""The measures of signals and pictures whose values are known."""

from __future__ import annotations

import pytest
import torch

from miniature.measure import colour_drift, correlation, lag, mouth_opening, psnr
from miniature.sitter import Sitter

SIGNAL = torch.rand(81, generator=torch.Generator().manual_seed(0))


def test_a_signal_correlates_with_itself_at_any_gain_and_not_with_another() -> None:
    other = torch.rand(81, generator=torch.Generator().manual_seed(1))
    assert correlation(SIGNAL, 3 * SIGNAL + 2) == pytest.approx(1)
    assert correlation(SIGNAL, -SIGNAL) == pytest.approx(-1)
    assert abs(correlation(SIGNAL, other)) < 0.3
    assert correlation(torch.ones(81), SIGNAL) == 0


@pytest.mark.parametrize("by", [-4, -1, 0, 3])
def test_a_late_signal_has_a_positive_lag(by: int) -> None:
    assert lag(SIGNAL.roll(by), SIGNAL) == by


def test_psnr_is_that_of_the_area() -> None:
    picture = torch.zeros(3, 4, 4)
    where = torch.zeros(4, 4)
    where[:, :2] = 1
    frames = torch.zeros(3, 2, 4, 4)
    frames[:, 1, :, :2] = 0.2  # a tenth of the full scale of 2
    frames[..., 2:] = 1
    assert psnr(frames, picture, where).tolist() == pytest.approx(
        [90, 20], abs=0.01
    )  # 90 is where it ends


def test_drift_is_the_worst_channels_share_of_full_scale() -> None:
    picture = torch.zeros(3, 4, 4)
    frames = picture[:, None].repeat(1, 5, 1, 1)
    frames[1] += 0.1
    assert colour_drift(frames, picture, torch.ones(4, 4)) == pytest.approx(0.05)


def test_a_mouth_is_measured_in_units_of_closed_and_wide_open() -> None:
    closed = torch.zeros(3, 4, 4)
    wide = torch.zeros(3, 4, 4)
    wide[:, 1:3] = -0.8
    frames = torch.stack([closed, 0.25 * wide, wide], 1)
    frames[:, :, 0] = 1  # not in the mouth
    box = torch.zeros(4, 4)
    box[1:3] = 1
    assert mouth_opening(frames, closed, wide, box).tolist() == pytest.approx([0, 0.25, 1])


def test_the_mouths_of_a_sitter_are_measured_as_they_were_drawn() -> None:
    for speakers, size in ((1, (128, 128)), (2, (96, 176))):
        sitter = Sitter.numbered(3, speakers, size)
        closed = sitter._with_mouths(0.0)
        wide = sitter._with_mouths(1.0)
        assert [float(each[0]) for each in sitter.mouths(closed[:, None])] == pytest.approx(
            [0.0] * speakers
        )
        assert [float(each[0]) for each in sitter.mouths(wide[:, None])] == pytest.approx(
            [1.0] * speakers
        )
        assert sitter.outside().mean() > 0.85
