"""The picture: which bucket it goes to, how it is cut for the model, and CLIP's tokens of it."""

from __future__ import annotations

from collections.abc import Mapping
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


def bucket(height: int, width: int, buckets: Mapping[float, tuple[int, int]]) -> tuple[int, int]:
    """The (height, width) whose height / width ratio is nearest to the picture's; of equals, the one listed first."""
    ratio = min(buckets, key=lambda key: abs(key - height / width))
    return buckets[ratio]


def fitted(frame: NDArray[np.uint8], height: int, width: int) -> Tensor:
    """RGB [H, W, 3] in; float32 [3, height, width] in [-1, 1] out, scaled to cover and cut in the middle."""
    scale = max(height / frame.shape[0], width / frame.shape[1])
    big_height = ceil(scale * frame.shape[0])
    big_width = ceil(scale * frame.shape[1])
    resized = np.asarray(
        Image.fromarray(frame).resize((big_width, big_height), Image.Resampling.BILINEAR)
    )
    top = round((big_height - height) / 2)  # half to even, as in the original
    left = round((big_width - width) / 2)
    cut = torch.from_numpy(resized[top : top + height, left : left + width].copy())
    return (cut.permute(2, 0, 1).float() / 255 - 0.5) * 2


class ImageEncoder:
    """CLIP's 257 tokens of a picture, from the last layer but one."""

    def __init__(self, model: Any) -> None:
        self.model = model.eval()

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Tensor:
        """[3, H, W] in [-1, 1] in, [1, 257, image_dim] out.

        The picture is squashed to a square, not cut, and bicubic overshoot is not clamped: CLIP's own preprocessing
        differs in both, and the model was not trained on that.
        """
        side = self.model.config.image_size
        square = (
            F.interpolate(image[None], size=(side, side), mode="bicubic", align_corners=False) * 0.5
            + 0.5
        )
        mean, std = (
            torch.tensor(each, device=image.device).view(3, 1, 1)
            for each in (_CLIP_MEAN, _CLIP_STD)
        )
        pixels = ((square - mean) / std).to(self.model.dtype)
        return self.model(pixel_values=pixels, output_hidden_states=True).hidden_states[-2].float()
