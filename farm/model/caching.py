"""TeaCache: steps that would change little reuse the blocks' last residual.

How much a step changes follows from its timestep alone. So the plan of all steps is known before
the first one runs, it is the same for every branch and every chunk of a job, and the host never
waits for the device. Source: https://github.com/ali-vilab/TeaCache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ALWAYS_COMPUTED = 5
"""The first steps, which decide the composition of the video."""


@dataclass(frozen=True)
class TeaCache:
    """Which steps to skip: the blocks run again once the expected changes reach `threshold`."""

    threshold: float
    polynomial: tuple[float, ...]
    """From the change of the time's modulation to that of the output; highest power first."""

    def plan(self, modulations: Tensor) -> list[bool]:
        """Whether the blocks run, for each step, from the steps' modulations [steps, ...]."""
        before = modulations[:-1].flatten(1)
        after = modulations[1:].flatten(1)
        changes = ((after - before).abs().mean(1) / before.abs().mean(1)).tolist()
        computed = [True] * min(ALWAYS_COMPUTED, len(modulations))
        expected = 0.0
        for change in changes[ALWAYS_COMPUTED - 1 :]:
            expected += float(np.polyval(self.polynomial, change))
            is_computed = not expected < self.threshold
            computed.append(is_computed)
            if is_computed:
                expected = 0.0
        return computed


class BlockCache:
    """The blocks' residual for one branch's tokens at its last computed step.

    Every branch of every chunk has a cache for itself.
    """

    def __init__(self, plan: Iterable[bool]) -> None:
        self._plan = iter(plan)
        self._residual = torch.zeros(())

    def __call__(self, x: Tensor, blocks: Callable[[Tensor], Tensor]) -> Tensor:
        """The tokens [B, L, C] after the blocks, computed or from the cache, as the plan says."""
        if not next(self._plan):
            return x + self._residual
        after = blocks(x)
        self._residual = after - x
        return after
