"""The openings measured in drawings are those that were drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from examples.make_media import COUPLE_SIZE, couple
from farm.model.image import resize_and_crop
from miniature.measure import correlation, darkness, psnr
from tests.lipsync import other_hand
from tests.lipsync.conftest import drawing
from tests.lipsync.sitter import Drawing, Sitter

OPENINGS = torch.linspace(0, 1, 6)


def filmed(draw: Drawing, openings: Sequence[Sequence[float]], size: tuple[int, int]) -> Tensor:
    """[3, F, H, W]: a frame for each of these openings of all mouths."""
    return torch.stack([resize_and_crop(np.asarray(draw(each)), *size) for each in openings], 1)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Sitter:
    path = tmp_path_factory.mktemp("two") / "two.png"
    return Sitter.drawn(drawing(couple(), COUPLE_SIZE), path, speakers=2, size=(96, 176))


@pytest.mark.parametrize("speaker", [0, 1])
def test_each_mouth_is_measured_separately(two: Sitter, speaker: int) -> None:
    openings = [[float(each) * (who == speaker) for who in (0, 1)] for each in OPENINGS]
    mouths = two.mouths(filmed(drawing(couple(), COUPLE_SIZE), openings, (96, 176)))

    assert correlation(mouths[speaker], OPENINGS) > 0.95
    assert mouths[speaker][[0, -1]].tolist() == pytest.approx([0, 1], abs=1e-3)
    assert mouths[1 - speaker].abs().max() < 1e-3


def test_nothing_outside_the_mouths_changes_when_they_open(two: Sitter) -> None:
    both = filmed(drawing(couple(), COUPLE_SIZE), [[1, 1]], (96, 176))
    assert psnr(both, two.closed, two.outside).min() > 50


def test_a_mouth_in_another_style_grows_dark_as_it_opens(tmp_path: Path) -> None:
    draw = lambda openings: other_hand.portrait(openings[0])  # noqa: E731
    sitter = Sitter.drawn(draw, tmp_path / "foreign.png", speakers=1, size=(128, 128))
    seen = darkness(filmed(draw, OPENINGS[:, None].tolist(), (128, 128)), sitter.boxes[0])
    assert correlation(seen, OPENINGS) > 0.9
