"""Frames as encoders take them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_host(frames: Tensor) -> Callable[[], NDArray[np.uint8]]:
    """[3, F, H, W] in [-1, 1] to uint8 [F, H, W, 3], truncated as the original does.

    On the frames' device: bytes are a quarter of what has to leave it. The call that is returned
    waits until a GPU has copied them, while the GPU goes on.
    """
    scaled = ((frames + 1) * 127.5).clamp(0, 255)
    pixels = scaled.to(torch.uint8).permute(1, 2, 3, 0)
    if not pixels.is_cuda:
        return pixels.numpy
    host = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
    host.copy_(pixels.contiguous(), non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()

    def wait() -> NDArray[np.uint8]:
        copied.synchronize()
        return host.numpy()

    return wait
