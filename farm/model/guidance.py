"""Guidance: which predictions a step needs, and how they become one velocity.

A step asks the model up to three times, each time taking one condition away. With `c` hearing and reading everything:

    text scale not 1    c, without the prompt, without the prompt and the sound
    text scale 1        c, without the sound
    both scales 1       c

Each difference between neighbours is what one condition contributes; the scales say how much of it is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Branch:
    """What one pass of the model is given."""

    prompt: bool = True
    """The prompt, or else the negative prompt."""
    sound: bool = True
    """The speaker's embedding, or else one speaker's zeros."""


@dataclass(frozen=True)
class Apg:
    """Adaptive projected guidance: differences with momentum, bounded, and without the part parallel to `c`."""

    momentum: float = -0.75
    norm_threshold: float = 55.0


def branches(text_scale: float, audio_scale: float) -> tuple[tuple[Branch, ...], tuple[float, ...]]:
    """The passes in order, and the scale of the difference between each and the next."""
    if text_scale != 1:
        return (
            Branch(),
            Branch(prompt=False),
            Branch(prompt=False, sound=False),
        ), (text_scale, audio_scale)
    if audio_scale != 1:
        return (Branch(), Branch(sound=False)), (audio_scale,)
    return (Branch(),), ()


class Guidance:
    """Combines the predictions of one step; made anew for every chunk, because APG's momentum starts empty there."""

    def __init__(self, scales: Sequence[float], apg: Apg | None = None) -> None:
        self.scales = scales
        self.apg = apg
        self._momentum: list[Tensor | None] = [None for _ in scales]

    def __call__(self, predictions: Sequence[Tensor]) -> Tensor:
        """As many [16, T, H, W] as there are branches in, one velocity out."""
        differences = [more - less for more, less in pairwise(predictions)]
        if self.apg:
            base = predictions[0]
            weights = [scale - 1 for scale in self.scales]
            differences = [
                self._projected(i, each, base, self.apg) for i, each in enumerate(differences)
            ]
        else:
            base = predictions[-1]
            weights = list(self.scales)
        for weight, difference in zip(weights, differences, strict=True):
            base = base + weight * difference
        return base

    def _projected(self, index: int, difference: Tensor, conditional: Tensor, apg: Apg) -> Tensor:
        """The momentum keeps the unclipped sum; the norm is that of the whole tensor; float64 for the projection."""
        past = self._momentum[index]
        moved = difference if past is None else difference + apg.momentum * past
        self._momentum[index] = moved
        clipped = (moved * torch.clamp(apg.norm_threshold / moved.norm(), max=1.0)).double()
        direction = conditional.double() / conditional.double().norm()
        return (clipped - (clipped * direction).sum() * direction).type_as(difference)
