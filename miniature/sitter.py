"""Somebody to be filmed, about whom everything is known that has to be measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from miniature.acting import Pose, still
from miniature.clips import Cast, cast, mouth_box
from miniature.face import Dice
from miniature.measure import mouth

SEED = 77_000_077
"""Far from the seeds of training (`miniature.training.generator`), so nobody here was ever seen there."""


@dataclass(frozen=True)
class Sitter:
    """One person in a picture, or two; `size` is (height, width)."""

    who: Cast
    size: tuple[int, int]
    picture: Tensor
    """[3, H, W] in [-1, 1]."""

    @classmethod
    def number(cls, index: int, speakers: int = 1, size: tuple[int, int] = (128, 128)) -> Sitter:
        """Always the same one for a number."""
        dice = Dice(1, torch.Generator().manual_seed(SEED + index))
        who = cast(dice, speakers, *size)
        poses = tuple(still(dice, dice.between(-0.6, 0.9).clamp(min=0)) for _ in range(speakers))
        return cls(who, size, who.painted(poses, *size)[0, :, 0])

    def mouths(self, frames: Tensor) -> list[Tensor]:
        """How far each speaker's mouth is open in frames [3, F, H, W], [F] each."""
        closed = self._posed(0.0)
        wide = self._posed(1.0)
        return [mouth(frames, closed, wide, box) for box in self.boxes()]

    def boxes(self) -> list[Tensor]:
        """Where each speaker's mouth is, [H, W] of 0 and 1."""
        return [
            mouth_box(*one, *self.size)[0]
            for one in zip(self.who.faces, self.who.heads, strict=True)
        ]

    def outside(self) -> Tensor:
        """Everything but the mouths, [H, W] of 0 and 1."""
        return 1 - torch.stack(self.boxes()).amax(0)

    def _posed(self, opening: float) -> Tensor:
        """[3, H, W]: upright, every mouth as wide open as that."""
        zero = torch.zeros(1, 1)
        one = torch.ones(1, 1)
        pose = Pose(
            x=zero,
            y=zero,
            tilt=zero,
            lids=one,
            brows=zero,
            opening=one * opening,
            spread=zero,
        )
        return self.who.painted((pose,) * len(self.who.faces), *self.size)[0, :, 0]
