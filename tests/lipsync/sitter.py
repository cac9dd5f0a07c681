"""The sitter of a job: the source image, and the same with each mouth closed and wide open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from farm.model.image import resize_and_crop
from miniature.measure import mouth_opening

MARGIN = 3
"""Pixels by which a nod may carry a mouth beyond its place in the picture."""

Drawing = Callable[[Sequence[float]], Image.Image]
"""Draws one picture with its mouths this far open, from 0 to 1."""


@dataclass(frozen=True)
class Sitter:
    """`source` is what a job is given, `closed` [3, H, W] in [-1, 1] what the model sees of it."""

    source: Path
    closed: Tensor
    wide: tuple[Tensor, ...]
    """The same with one mouth after the other wide open."""

    @classmethod
    def drawn(cls, draw: Drawing, source: Path, *, speakers: int, size: tuple[int, int]) -> Self:
        """A sitter whose picture is written to `source`; size is (height, width) of the video."""
        draw([0.0] * speakers).save(source)
        closed, *wide = (
            resize_and_crop(np.asarray(draw(openings.tolist())), *size)
            for openings in torch.cat([torch.zeros(1, speakers), torch.eye(speakers)])
        )
        return cls(source, closed, tuple(wide))

    def mouths(self, frames: Tensor) -> list[Tensor]:
        """The opening of each mouth in frames [3, F, H, W], as [F] each."""
        return [
            mouth_opening(frames, self.closed, wide, box)
            for wide, box in zip(self.wide, self.boxes, strict=True)
        ]

    @property
    def boxes(self) -> list[Tensor]:
        """[H, W] of 0 and 1 for each mouth: the rectangle in which it moves."""
        return [_around((wide - self.closed).abs().amax(0) > 0.1) for wide in self.wide]

    @property
    def outside(self) -> Tensor:
        """[H, W]: everything but the mouths."""
        return 1 - torch.stack(self.boxes).amax(0)


def _around(moved: Tensor) -> Tensor:
    """The smallest rectangle round all true pixels, and MARGIN more."""
    box = torch.zeros(moved.shape)
    rows, columns = (moved.any(side).nonzero().flatten().tolist() for side in (1, 0))
    top = max(0, rows[0] - MARGIN)
    left = max(0, columns[0] - MARGIN)
    box[top : rows[-1] + MARGIN + 1, left : columns[-1] + MARGIN + 1] = 1
    return box
