"""A synthetic sitter for a portrait, of whom everything that is measured is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from miniature.acting import Pose, posed, sample_opening
from miniature.clips import Scene, mouth_mask, sample_scene
from miniature.face import Sampler
from miniature.measure import mouth_opening

SEED = 77_000_077
"""Far from the seeds of training (`miniature.training.generator`): no sitter was trained on."""


@dataclass(frozen=True)
class Sitter:
    """One person in a picture, or two; `size` is (height, width)."""

    scene: Scene
    size: tuple[int, int]
    picture: Tensor
    """[3, H, W] in [-1, 1]."""

    @classmethod
    def numbered(cls, index: int, speakers: int = 1, size: tuple[int, int] = (128, 128)) -> Sitter:
        """The sitter of a number, always the same one."""
        sampler = Sampler(1, torch.Generator().manual_seed(SEED + index))
        scene = sample_scene(sampler, speakers, *size)
        poses = tuple(posed(sampler, sample_opening(sampler)) for _ in range(speakers))
        return cls(scene, size, scene.render(poses, *size)[0, :, 0])

    def mouths(self, frames: Tensor) -> list[Tensor]:
        """The opening of each speaker's mouth in frames [3, F, H, W], [F] each."""
        closed = self._with_mouths(0.0)
        wide = self._with_mouths(1.0)
        return [mouth_opening(frames, closed, wide, box) for box in self.boxes()]

    def boxes(self) -> list[Tensor]:
        """The area of each speaker's mouth, [H, W] of 0 and 1."""
        people = zip(self.scene.faces, self.scene.heads, strict=True)
        return [mouth_mask(face, head, *self.size)[0] for face, head in people]

    def outside(self) -> Tensor:
        """Everything but the mouths, [H, W] of 0 and 1."""
        return 1 - torch.stack(self.boxes()).amax(0)

    def _with_mouths(self, opening: float) -> Tensor:
        """[3, H, W]: everyone upright, every mouth this far open."""
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
        poses = (pose,) * len(self.scene.faces)
        return self.scene.render(poses, *self.size)[0, :, 0]
