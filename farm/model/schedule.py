"""The flow schedule: at which times the denoise loop looks."""

from __future__ import annotations

import torch
from torch import Tensor


def timesteps(steps: int, shift: float) -> Tensor:
    """[steps + 1] float32, from 1000 down to 0; a larger `shift` spends more of the steps near the noise.

    Even steps from 1000 to 1 are bent once. Diffusers' own `set_timesteps(N)` bends the end twice.
    """
    even = torch.linspace(1000, 1, steps) / 1000
    bent = 1000 * (shift * even / (1 + (shift - 1) * even))
    return torch.cat([bent, torch.zeros(1)])
