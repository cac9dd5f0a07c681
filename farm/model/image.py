"""The source image: how it is cropped for the model, and CLIP's tokens of it."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def resize_and_crop(frame: NDArray[np.uint8], height: int, width: int) -> Tensor:
    """An RGB image [H, W, 3] as float32 [3, height, width] in [-1, 1].

    It is resized to cover the new size and cropped at the centre.
    """
    scale = max(height / frame.shape[0], width / frame.shape[1])
    big_height = ceil(scale * frame.shape[0])
    big_width = ceil(scale * frame.shape[1])
    image = Image.fromarray(frame).resize((big_width, big_height), Image.Resampling.BILINEAR)
    resized = np.asarray(image)
    top = round((big_height - height) / 2)  # half to even, as in the original
    left = round((big_width - width) / 2)
    cropped = torch.from_numpy(resized[top : top + height, left : left + width].copy())
    return (cropped.permute(2, 0, 1).float() / 255 - 0.5) * 2


class ImageEncoder:
    """CLIP's 257 tokens of an image, from the last layer but one."""

    def __init__(self, model: Any) -> None:
        self.model = model.eval()

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Tensor:
        """[3, H, W] in [-1, 1] in, [1, 257, image_dim] out.

        The image is squashed to a square, not cropped, and bicubic overshoot is not clamped: CLIP's
        own preprocessing differs in both, and the model was not trained on that.
        """
        side = self.model.config.image_size
        square = F.interpolate(
            image[None],
            size=(side, side),
            mode="bicubic",
            align_corners=False,
        )
        square = square * 0.5 + 0.5
        mean = torch.tensor(_CLIP_MEAN, device=image.device).view(3, 1, 1)
        std = torch.tensor(_CLIP_STD, device=image.device).view(3, 1, 1)
        pixels = ((square - mean) / std).to(self.model.dtype)
        hidden = self.model(pixel_values=pixels, output_hidden_states=True).hidden_states
        return hidden[-2].float()
