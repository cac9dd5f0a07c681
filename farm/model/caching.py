"""TeaCache: where a step would change little, what the blocks added last time is added again.

How much a step changes can be read from its time alone. So the plan for all steps stands before the first one runs; it
is the same for every branch and every chunk of a job, and the device is never waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ALWAYS_COMPUTED = 5
"""The first steps, in which the picture takes its shape."""


@dataclass(frozen=True)
class TeaCache:
    """When to skip: once the expected changes add up to `threshold`, the blocks run again."""

    threshold: float
    polynomial: tuple[float, ...]
    """From the change of the time's modulation to the expected change of the blocks' answer; highest power first."""

    def plan(self, modulations: Tensor) -> list[bool]:
        """Whether the blocks run, for each step, from the steps' modulations [steps, ...]."""
        before = modulations[:-1].flatten(1)
        after = modulations[1:].flatten(1)
        changes = ((after - before).abs().mean(1) / before.abs().mean(1)).tolist()
        computed = [True] * min(ALWAYS_COMPUTED, len(modulations))
        expected = 0.0
        for change in changes[ALWAYS_COMPUTED - 1 :]:
            expected += float(np.polyval(self.polynomial, change))
            computed.append(not expected < self.threshold)
            if computed[-1]:
                expected = 0.0
        return computed


class Shortcut:
    """One branch's way round the blocks; made anew for every chunk."""

    def __init__(self, plan: Iterable[bool]) -> None:
        self._computed = iter(plan)
        self._added = torch.zeros(())

    def __call__(self, x: Tensor, blocks: Callable[[Tensor], Tensor]) -> Tensor:
        """The tokens [B, L, C] after the blocks: through them at the steps of the plan, round them at the others."""
        if next(self._computed):
            after = blocks(x)
            self._added = after - x
            return after
        return x + self._added
