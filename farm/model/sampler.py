"""Samplers: the timesteps of the denoise loop, its random numbers, and what a step makes of them.

Times fall from 1000, noise, to 0; the model predicts the velocity, noise minus data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

CONSISTENCY_TIMES = {2: (1000, 500), 4: (1000, 750, 500, 250)}
"""Times before the shift, by the numbers of steps that FlashTalk was distilled for."""


@dataclass(frozen=True)
class Noise:
    """The random numbers of one chunk."""

    initial: Tensor
    """[16, T, h, w]"""
    fresh: tuple[Tensor, ...] = ()
    """As many again for each step, if the sampler adds noise in its steps."""


class Sampler(Protocol):
    can_skip_last_step: bool
    """Whether the last step but one may go to 0, which saves a step and changes little."""

    def timesteps(self, steps: int, shift: float) -> Tensor:
        """Times from 1000 down to 0, [steps + 1] float32.

        A larger `shift` spends more of the steps near the noise.
        """

    def draw(
        self, generator: Generator, shape: Sequence[int], *, steps: int, known: int | None
    ) -> Noise:
        """The random numbers of a chunk of `shape` [16, T, h, w], in the original's order.

        `known` is the number of latent frames that the chunk continues from; None for the first.
        """

    def step(self, x: Tensor, velocity: Tensor, times: Tensor, index: int, noise: Noise) -> Tensor:
        """The latents after the step from `times[index]` to the time after it."""


class FlowMatchEuler:
    """InfiniteTalk's sampler: each step follows the velocity to the next time."""

    can_skip_last_step = True

    def timesteps(self, steps: int, shift: float) -> Tensor:
        """Even steps from 1000 to 1, shifted once; diffusers' own would shift the end twice."""
        return _shifted(torch.linspace(1000, 1, steps), shift)

    def draw(
        self, generator: Generator, shape: Sequence[int], *, steps: int, known: int | None
    ) -> Noise:
        """A later chunk draws more noise, for every step and once more, and discards it.

        The original noised its motion latents and overwrote them before use, and only this
        reproduces its seeds.
        """
        initial = torch.randn(*shape, generator=generator)
        if known is not None:
            channels, _, height, width = shape
            for _ in range(1 + steps):
                torch.randn(channels, known, height, width, generator=generator)
        return Noise(initial)

    def step(self, x: Tensor, velocity: Tensor, times: Tensor, index: int, noise: Noise) -> Tensor:
        return x + velocity * (times[index + 1] - times[index]) / 1000


class Consistency:
    """FlashTalk's sampler: each step goes to the clean estimate and is noised anew."""

    can_skip_last_step = False

    def timesteps(self, steps: int, shift: float) -> Tensor:
        """The times that the model was distilled for, or even ones for other numbers of steps."""
        times = CONSISTENCY_TIMES.get(steps)
        even = torch.tensor(times) if times else torch.linspace(1000, 1, steps)
        return _shifted(even, shift)

    def draw(
        self, generator: Generator, shape: Sequence[int], *, steps: int, known: int | None
    ) -> Noise:
        """Noise for the beginning and each step; that of the last one is drawn and unused."""
        initial, *fresh = (torch.randn(*shape, generator=generator) for _ in range(1 + steps))
        return Noise(initial, tuple(fresh))

    def step(self, x: Tensor, velocity: Tensor, times: Tensor, index: int, noise: Noise) -> Tensor:
        clean = x - velocity * times[index] / 1000
        share = times[index + 1] / 1000
        return (1 - share) * clean + share * noise.fresh[index].to(x.device)


SAMPLERS: dict[str, Sampler] = {"euler": FlowMatchEuler(), "consistency": Consistency()}
"""By the name that a preset gives."""


def without_last_step(times: Tensor) -> Tensor:
    """The times with the last step but one going to 0, if there is one."""
    return torch.cat([times[:-2], times[-1:]]) if len(times) > 2 else times


def _shifted(even: Tensor, shift: float) -> Tensor:
    """Times [n] shifted towards the noise, and 0 behind them."""
    even = even.float() / 1000
    return torch.cat([1000 * (shift * even / (1 + (shift - 1) * even)), torch.zeros(1)])
