"""Two speakers in one picture: whose voice a pixel hears.

Each speaker has a region of the picture. While the video attends to its own first frame, the region
that a pixel attends to most is the one it belongs to: person 1, person 2 or the background. That
becomes a position on a line where the first voice is at 2, the second at 22 and the background at
12. A rotary embedding (RoPE) of that position makes near voices loud and far ones quiet. Positions
and ranges are those that InfiniteTalk was trained with.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from farm.errors import InvalidInput
from farm.model.attention import attend
from farm.model.tokens import WHOLE, Share

Box = tuple[int, int, int, int]
"""(top, left, bottom, right) in pixels of the source picture; bottom and right are exclusive."""

FIRST_VOICE = 2.0
SECOND_VOICE = 22.0
BACKGROUND = 12.0

# Pixels of person 1 are at 0..4 and those of person 2 at 20..24: the centre of each range is that
# speaker's voice.
_RANGE_STARTS = (0.0, 20.0)
_RANGE_LENGTH = 4.0

_MARGIN = 0.05
_THETA = 10_000.0


def regions(frame: tuple[int, int], size: tuple[int, int], boxes: Sequence[Box] = ()) -> Tensor:
    """Masks of 0 and 1 for person 1, person 2 and the background: [3, tokens of a latent frame].

    `frame` is (height, width) of the source and `size` that of the video. Without boxes person 1
    has the left half of the source and person 2 the right one, less a margin of 5 %.
    """
    height, width = frame
    _check_boxes(frame, boxes)
    masks = torch.zeros(3, height, width)
    for mask, box in zip(masks[:2], boxes or _halves(height, width), strict=True):
        top, left, bottom, right = box
        mask[top:bottom, left:right] = 1
    masks[2] = 1 - masks[:2].amax(0)
    return on_tokens(_on_latents(masks, *size))


def on_tokens(masks: Tensor) -> Tensor:
    """Masks on the latent grid [3, h, w] in, on the grid of the tokens [3, (h/2)(w/2)] out."""
    _, height, width = masks.shape
    return (_nearest(masks, height // 2, width // 2) > 0).float().flatten(1)


def positions(
    query: Tensor,
    key: Tensor,
    regions: Tensor,
    backend: str | None = None,
    share: Share = WHOLE,
) -> Tensor:
    """The position of each token of the share on the line of voices, [B, L] float32.

    Arguments as of `region_attention`.
    """
    attention = region_attention(query, key, regions, backend, share)
    low = share.lowest(attention.amin(1, keepdim=True))
    high = share.highest(attention.amax(1, keepdim=True))
    within = _RANGE_LENGTH * (attention - low) / (high - low + 1e-8)
    first = within[..., 0] + _RANGE_STARTS[0]
    second = within[..., 1] + _RANGE_STARTS[1]
    candidates = F.pad(torch.stack([first, second], -1), (0, 1), value=BACKGROUND)
    strongest = attention.argmax(2, keepdim=True)
    return candidates.gather(2, strongest)[..., 0]


def region_attention(
    query: Tensor,
    key: Tensor,
    regions: Tensor,
    backend: str | None = None,
    share: Share = WHOLE,
) -> Tensor:
    """The attention of each token to each region, divided by the region's size: [B, L, 3] float32.

    `query` [B, L, heads, D] and `key`, that of the first latent frame's tokens, [B, tokens, heads,
    D], both of the video's self-attention; `regions` [B, 3, tokens]. One attention whose values are
    the masks of the regions gives every token's part of attention for each of them; the matrix of
    weights is never stored. Queries and keys are those of `share.to_heads`, the result is that of
    its own tokens.
    """
    count = regions.shape[1]
    values = F.pad(regions.mT, (0, key.shape[-1] - count))
    values = values[:, :, None].expand_as(key).type_as(key)
    output = attend(query, key, values, backend)
    shares = share.to_tokens(output[..., :count]).float().mean(2)
    return shares / regions.sum(2).clamp(min=1)[:, None]  # an empty region gets no attention


def speaker_angles(positions: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [B, L, dim / 2] of positions [B, L] on the line of voices, in float32."""
    channels = torch.arange(0, dim, 2, device=positions.device, dtype=torch.float32)
    frequencies = _THETA ** (-channels / dim)
    angles = positions[..., None] * frequencies
    return angles.cos(), angles.sin()


def voice_positions(tokens: int, device: torch.device) -> Tensor:
    """The positions [1, tokens] of two speakers' audio tokens: the first half is person 1's."""
    speakers = torch.tensor([[FIRST_VOICE, SECOND_VOICE]], device=device)
    return speakers.repeat_interleave(tokens // 2, dim=1)


def _check_boxes(frame: tuple[int, int], boxes: Sequence[Box]) -> None:
    height, width = frame
    if len(boxes) not in (0, 2):
        raise InvalidInput(f"boxes: got {len(boxes)}; allowed: two, one per speaker, or none")
    for top, left, bottom, right in boxes:
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise InvalidInput(
                f"boxes: got rows {top}..{bottom}, columns {left}..{right}; "
                f"allowed: inside the image of {height} rows and {width} columns"
            )


def _halves(height: int, width: int) -> Sequence[Box]:
    """The boxes of the left and of the right half, less the margin."""
    half = width // 2
    far = 1 - _MARGIN
    top = int(height * _MARGIN)
    bottom = int(height * far)
    return [
        (top, int(half * _MARGIN + start), bottom, int(half * far + start)) for start in (0, half)
    ]


def _on_latents(masks: Tensor, height: int, width: int) -> Tensor:
    """Masks resized and cropped like the image (`resize_and_crop`), then on the latent grid."""
    scale = max(height / masks.shape[1], width / masks.shape[2])
    big = _nearest(masks, ceil(scale * masks.shape[1]), ceil(scale * masks.shape[2]))
    top = round((big.shape[1] - height) / 2)
    left = round((big.shape[2] - width) / 2)
    cropped = big[:, top : top + height, left : left + width]
    return (_nearest(cropped, height // 8, width // 8) > 0).float()


def _nearest(masks: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(masks[None], size=(height, width), mode="nearest")[0]
