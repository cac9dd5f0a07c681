"""The flow-matching schedule: the timesteps of the denoise loop."""

from __future__ import annotations

import torch
from torch import Tensor


def timesteps(steps: int, shift: float, *, skip_last: bool = False) -> Tensor:
    """Times from 1000 down to 0, [steps + 1] float32.

    A larger `shift` spends more of the steps near the noise. Even steps from 1000 to 1 are shifted
    once; diffusers' own `set_timesteps(N)` shifts the end twice. The last evaluation is then at a
    time near 7 (`shift` 7), where little is left to do: with `skip_last` the one before it, if
    there is one, goes to 0.
    """
    even = torch.linspace(1000, 1, steps) / 1000
    shifted = 1000 * (shift * even / (1 + (shift - 1) * even))
    if skip_last and steps > 1:
        shifted = shifted[:-1]
    return torch.cat([shifted, torch.zeros(1)])
