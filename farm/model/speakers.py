"""Two speakers in one picture: whose voice a pixel hears.

Each speaker has a region of the picture. Where a pixel looks while the video attends to its own first frame tells to
whom it belongs: person 1, person 2 or the background. That becomes a position on a line on which the first voice
stands at 2, the second at 22, and nobody at 12; a rotary embedding of it makes near voices loud and far ones quiet.
Positions and ranges are those that InfiniteTalk was trained with.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor

from farm.errors import InvalidInput

Box = tuple[int, int, int, int]
"""(top, left, bottom, right) in pixels of the source picture; bottom and right are excluded."""

FIRST_VOICE = 2.0
SECOND_VOICE = 22.0
NOBODY = 12.0
_LINE_STARTS = (0.0, 20.0)
_LINE_LENGTH = 4.0
_MARGIN = 0.05
_THETA = 10_000.0


def regions(frame: tuple[int, int], cut: tuple[int, int], boxes: Sequence[Box] = ()) -> Tensor:
    """Who is where, [3, tokens of a latent frame] of 0 and 1: person 1, person 2, background.

    `frame` is (height, width) of the source and `cut` that of the video. Without boxes person 1 has the left half of
    the source and person 2 the right one, a margin of 5 % left out.
    """
    height, width = frame
    masks = torch.zeros(3, height, width)
    for mask, (top, left, bottom, right) in zip(
        masks, _checked(frame, boxes) or _halves(height, width), strict=False
    ):
        mask[top:bottom, left:right] = 1
    masks[2] = 1 - masks[:2].amax(0)
    return on_tokens(_fitted(masks, *cut))


def on_tokens(masks: Tensor) -> Tensor:
    """Masks on the latent grid [3, h, w] in, on that of the tokens [3, (h/2)(w/2)] out."""
    _, height, width = masks.shape
    return (_nearest(masks, height // 2, width // 2) > 0).float().flatten(1)


def positions(query: Tensor, key: Tensor, regions: Tensor, backend: str | None = None) -> Tensor:
    """Where each token stands on the line of voices, [B, L] float32; arguments as of `looks`."""
    share = looks(query, key, regions, backend)
    low = share.amin(1, keepdim=True)
    high = share.amax(1, keepdim=True)
    line = _LINE_LENGTH * (share - low) / (high - low + 1e-8)
    places = torch.stack([line[..., 0] + _LINE_STARTS[0], line[..., 1] + _LINE_STARTS[1]], -1)
    places = F.pad(places, (0, 1), value=NOBODY)
    return places.gather(2, share.argmax(2, keepdim=True))[..., 0]


def looks(query: Tensor, key: Tensor, regions: Tensor, backend: str | None = None) -> Tensor:
    """How much each token looks at each region, by the region's size: [B, L, 3] float32.

    `query` [B, L, heads, D] and `key`, that of the first latent frame's tokens, [B, tokens, heads, D], both of the
    video's self-attention; `regions` [B, 3, tokens]. One attention whose values are the regions gives every token's
    share of looks at each of them, and no matrix of looks is ever stored.
    """
    values = (
        F.pad(regions.mT, (0, key.shape[-1] - regions.shape[1]))[:, :, None]
        .expand_as(key)
        .type_as(key)
    )
    shares = (
        dispatch_attention_fn(query, key, values, backend=backend)[..., : regions.shape[1]]
        .float()
        .mean(2)
    )
    return shares / regions.sum(2).clamp(min=1)[:, None]  # an empty region gets no looks


def placed(tokens: Tensor, positions: Tensor) -> Tensor:
    """Tokens [B, L, heads, D] turned by their positions [B, L], in float32."""
    dim = tokens.shape[-1]
    speeds = _THETA ** (-torch.arange(0, dim, 2, device=tokens.device, dtype=torch.float32) / dim)
    angles = (positions[..., None] * speeds)[..., None, :]
    return turned(tokens, angles.cos(), angles.sin())


def voices(tokens: int, device: torch.device) -> Tensor:
    """The positions [1, tokens] of two speakers' audio tokens: the first half is person 1's."""
    return torch.tensor([[FIRST_VOICE, SECOND_VOICE]], device=device).repeat_interleave(
        tokens // 2, dim=1
    )


def turned(tokens: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Neighbouring channels (2i, 2i + 1) as planes, each turned by its angle; float32 inside, the tokens' dtype out."""
    even, odd = tokens.unflatten(-1, (-1, 2)).unbind(-1)
    return (
        torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1)
        .flatten(-2)
        .type_as(tokens)
    )


def _checked(frame: tuple[int, int], boxes: Sequence[Box]) -> Sequence[Box]:
    height, width = frame
    if len(boxes) not in (0, 2):
        raise InvalidInput(f"{len(boxes)} boxes were given; two speakers need two, or none")
    for top, left, bottom, right in boxes:
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise InvalidInput(
                f"the box rows {top}..{bottom}, columns {left}..{right} is not inside the picture of "
                f"{height} rows and {width} columns"
            )
    return boxes


def _halves(height: int, width: int) -> Sequence[Box]:
    half = width // 2
    far = 1 - _MARGIN
    rows = int(height * _MARGIN), int(height * far)
    columns = [(int(half * _MARGIN + start), int(half * far + start)) for start in (0, half)]
    return [(rows[0], left, rows[1], right) for left, right in columns]


def _fitted(masks: Tensor, height: int, width: int) -> Tensor:
    """Scaled and cut like the picture itself (`farm.model.image.fitted`), then on the latent grid."""
    scale = max(height / masks.shape[1], width / masks.shape[2])
    big = _nearest(masks, ceil(scale * masks.shape[1]), ceil(scale * masks.shape[2]))
    top = round((big.shape[1] - height) / 2)
    left = round((big.shape[2] - width) / 2)
    cut = big[:, top : top + height, left : left + width]
    return (_nearest(cut, height // 8, width // 8) > 0).float()


def _nearest(masks: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(masks[None], size=(height, width), mode="nearest")[0]
