"""The audio attention with its projections folded into its keys and values.

A latent frame has few audio tokens, 32 for each head, and all of its pixels attend to them. So a
query's projection can be applied to the keys instead, and the output's to the values:

    q . k = (W_q x + b_q) . k = x . (W_q' k) + b_q . k        out = sum of p (W_o v + b_o / heads)

That is a quarter of the products at this width. In bfloat16 it errs by a little more, because the
folded keys and values are rounded once more, and for each branch of the guidance and each chunk
they take 550 MB a block (two frames of them for silence, which sounds alike in all later frames).

Shapes: T latent frames, n tokens of a frame, H heads, D channels of a head, C = H D.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Folded(NamedTuple):
    """Keys, what queries' bias adds to the logits, and values; alike frames are held once."""

    keys: Tensor
    """[T or 2, H n, C]"""
    bias: Tensor
    """[T or 2, 1, H n]"""
    values: Tensor
    """[T or 2, H n, C]"""


def fold(attn: Any, audio: Tensor) -> Folded:
    """Of an `AudioAttention` and one video's audio tokens [1, T, n, audio_dim]."""
    frames = _distinct(audio[0])
    key, value = (
        each.flatten(0, 1).unflatten(-1, (attn.heads, -1)).transpose(0, 1)  # [H, T n, D]
        for each in attn.to_kv(frames).chunk(2, dim=-1)
    )
    out = attn.to_out[0]
    query_weight = attn.to_q.weight.unflatten(0, (attn.heads, -1))  # [H, D, C]
    output_weight = out.weight.T.unflatten(0, (attn.heads, -1))
    query_bias = attn.to_q.bias.unflatten(0, (attn.heads, -1, 1))  # [H, D, 1]
    key = key * key.shape[-1] ** -0.5
    of_frames = partial(_of_frames, frames=len(frames))
    # Every head's weights sum to 1, so the output's bias may be spread over the heads' values.
    return Folded(
        keys=of_frames(key @ query_weight),
        bias=of_frames(key @ query_bias).mT,
        values=of_frames(value @ output_weight).add_(out.bias / attn.heads),
    )


def _of_frames(tokens: Tensor, frames: int) -> Tensor:
    """[H, T n, C] in, [T, H n, C] out."""
    return tokens.unflatten(1, (frames, -1)).transpose(0, 1).flatten(1, 2)


def attend_folded(x: Tensor, folded: Folded, frames: int, heads: int) -> Tensor:
    """What the attention adds to one video's tokens [1, L, C], its output projection included."""
    pixels = x[0].unflatten(0, (frames, -1))  # [T, L / T, C]
    parts = [pixels], [folded]
    if len(folded.keys) < frames:
        one_each = zip(*(each.split(1) for each in folded), strict=True)
        parts = [pixels[:1], pixels[1:]], [Folded(*each) for each in one_each]
    attended = [_attend(some, heard, heads) for some, heard in zip(*parts, strict=True)]
    return torch.cat(attended).flatten(0, 1)[None]


def _attend(pixels: Tensor, folded: Folded, heads: int) -> Tensor:
    """[T, pixels, C] in and out; one frame of keys and values serves any number of frames."""
    frames = len(pixels)
    logits = torch.baddbmm(folded.bias, pixels, folded.keys.mT.expand(frames, -1, -1))
    weights = logits.unflatten(-1, (heads, -1)).softmax(-1).flatten(2)
    return torch.bmm(weights, folded.values.expand(frames, -1, -1))


def _distinct(frames: Tensor) -> Tensor:
    """The first two frames if all later ones are like the second, else all."""
    return frames[:2] if len(frames) > 2 and torch.equal(frames[2:], frames[1:-1]) else frames
