"""The flow schedule: at which times the denoise loop looks."""

from __future__ import annotations

import torch
from torch import Tensor


def timesteps(steps: int, shift: float, *, skip_last: bool = False) -> Tensor:
    """[steps + 1] float32, from 1000 down to 0; a larger `shift` spends more of the steps near the noise.

    Even steps from 1000 to 1 are bent once; diffusers' own `set_timesteps(N)` bends the end twice. The last look is
    then at a time near 7 (`shift` 7), where little is left to do: with `skip_last` the one before it, if there is one,
    goes to 0.
    """
    even = torch.linspace(1000, 1, steps) / 1000
    bent = 1000 * (shift * even / (1 + (shift - 1) * even))
    return torch.cat([bent[:-1] if skip_last and steps > 1 else bent, torch.zeros(1)])
