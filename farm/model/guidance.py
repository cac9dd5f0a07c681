"""Classifier-free guidance: the predictions that a step needs, and their combination.

A step runs the model up to three times, each time with one condition fewer. With `c` for all
conditions:

    text scale not 1    c, without the prompt, without the prompt and the audio
    text scale 1        c, without the audio
    both scales 1       c

Each difference between neighbours is the contribution of one condition; the scales say how strongly
it counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Branch:
    """The conditions of one pass of the model."""

    prompt: bool = True
    """The prompt, or else the negative prompt."""
    audio: bool = True
    """The speakers' embeddings, or else the zeros of one speaker."""


@dataclass(frozen=True)
class Apg:
    """Adaptive projected guidance.

    Differences have momentum and a bounded norm, and lose the part that is parallel to `c`.
    Source: https://arxiv.org/abs/2410.02416.
    """

    momentum: float = -0.75
    norm_threshold: float = 55.0


def branches(text_scale: float, audio_scale: float) -> tuple[tuple[Branch, ...], tuple[float, ...]]:
    """The passes in order, and the scale of the difference between each and the next."""
    if text_scale != 1:
        passes = (
            Branch(),
            Branch(prompt=False),
            Branch(prompt=False, audio=False),
        )
        return passes, (text_scale, audio_scale)
    if audio_scale != 1:
        return (Branch(), Branch(audio=False)), (audio_scale,)
    return (Branch(),), ()


class Guidance:
    """Combines the predictions of one step.

    Every chunk needs a new one, because APG's momentum starts at zero there.
    """

    def __init__(self, scales: Sequence[float], apg: Apg | None = None) -> None:
        self.scales = scales
        self.apg = apg
        self._momentum: list[Tensor | None] = [None for _ in scales]

    def __call__(self, predictions: Sequence[Tensor]) -> Tensor:
        """One velocity from the predictions [16, T, H, W] of the branches, in their order."""
        differences = [more - less for more, less in pairwise(predictions)]
        if self.apg is None:
            velocity = predictions[-1]
            weights = list(self.scales)
        else:
            # APG counts from the full prediction, so each difference is in it once already.
            velocity = predictions[0]
            weights = [scale - 1 for scale in self.scales]
            differences = [
                self._project(index, difference, predictions[0], self.apg)
                for index, difference in enumerate(differences)
            ]
        for weight, difference in zip(weights, differences, strict=True):
            velocity = velocity + weight * difference
        return velocity

    def _project(self, index: int, difference: Tensor, conditional: Tensor, apg: Apg) -> Tensor:
        """The difference with momentum, clipped, less its part along `conditional`.

        The momentum keeps the unclipped sum; the norm is that of the whole tensor.
        """
        past = self._momentum[index]
        moved = difference if past is None else difference + apg.momentum * past
        self._momentum[index] = moved
        clipped = (moved * torch.clamp(apg.norm_threshold / moved.norm(), max=1.0)).double()
        direction = conditional.double() / conditional.double().norm()
        parallel = (clipped * direction).sum() * direction
        return (clipped - parallel).type_as(difference)
