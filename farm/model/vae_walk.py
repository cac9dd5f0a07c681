"""Wan's encoder and decoder, walked a piece of a video at a time over diffusers' modules.

The modules' own walk pads and copies every tensor in front of every convolution, in a layout that a
GPU's convolutions do not take; that is two thirds of its time. Here channels are last in memory, a
convolution pads by itself, and norm and activation are written behind the frames that it looks back
on. The numbers are the same to rounding.

Shapes: x is [B, C, F, H, W] everywhere, with channels last in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanAttentionBlock,
    WanCausalConv3d,
    WanDecoder3d,
    WanEncoder3d,
    WanMidBlock,
    WanResample,
    WanResidualBlock,
    WanRMS_norm,
)
from torch import Tensor, nn
from torch.nn import functional as F

from farm.model.fused import takes_kernels

LOOK_BACK = 2
"""Frames before its own that a causal convolution reads."""

Caches = dict[nn.Module, Tensor]
"""What each causal convolution looks back on; empty before the first piece of a video."""


class _Made(NamedTuple):
    """What a part of the encoder made last."""

    source: Tensor
    result: Tensor
    is_steady: bool
    """Whether it would make the same again, because the frames before are the same as well."""


class Encoding:
    """The encoder's walk through one video, whose pieces come in their order.

    Where a video stands still, so do after a while the results of a part, of those that see all
    pixels first. They take most of the time, and are not computed again.
    """

    def __init__(self, encoder: WanEncoder3d) -> None:
        self._encoder = encoder
        self._caches: Caches = {}
        self._made: dict[nn.Module, _Made] = {}

    def moments(self, x: Tensor, *, comes_again: bool = False) -> Tensor:
        """The moments of a piece: the first frame, then fours of frames.

        `comes_again` tells that the next piece may be the very same tensor.
        """
        encoder = self._encoder
        x = self._walked(_causal, encoder.conv_in, x, comes_again)
        for block in encoder.down_blocks:
            x = self._walked(_down, block, x, comes_again)
        x = self._walked(_middle, encoder.mid_block, x, comes_again)
        return _causal(encoder.conv_out, x, self._caches, norm=encoder.norm_out)

    def _walked(
        self, walk: Callable[..., Tensor], part: nn.Module, x: Tensor, comes_again: bool
    ) -> Tensor:
        made = self._made.get(part)
        came_before = made is not None and made.source is x
        if made and came_before and made.is_steady:
            return made.result
        before = dict(self._caches) if came_before else {}
        result = walk(part, x, self._caches)
        if comes_again:
            seen = [conv for conv in part.modules() if conv in before]
            is_steady = came_before and all(
                torch.equal(before[conv], self._caches[conv]) for conv in seen
            )
            self._made[part] = _Made(x, result, is_steady)
        return result


def _down(block: nn.Module, x: Tensor, caches: Caches) -> Tensor:
    if isinstance(block, WanResidualBlock):
        return _residual(block, x, caches)
    if isinstance(block, WanAttentionBlock):
        return _attention(block, x)
    return _downsample(block, x, caches)


def decode_piece(decoder: WanDecoder3d, x: Tensor, caches: Caches) -> Tensor:
    """The frames of a piece of latents: one of the first latent frame, four of each later one."""
    is_first = not caches
    x = _causal(decoder.conv_in, x, caches)
    x = _middle(decoder.mid_block, x, caches)
    for block in decoder.up_blocks:
        for residual in block.resnets:
            x = _residual(residual, x, caches)
        for resample in block.upsamplers or ():
            x = _upsample(resample, x, caches, is_first=is_first)
    return _causal(decoder.conv_out, x, caches, norm=decoder.norm_out)


def set_channels_last(model: nn.Module) -> None:
    """Lays the weights of convolutions out as the walk lays out what they are applied to."""
    for parameter in model.parameters():
        if parameter.ndim in (4, 5):
            with torch.inference_mode(parameter.is_inference()):  # else it may be trained
                parameter.data = _channels_last(parameter.data)


def _channels_last(x: Tensor) -> Tensor:
    layout = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    return x.contiguous(memory_format=layout)


def _middle(block: WanMidBlock, x: Tensor, caches: Caches) -> Tensor:
    first, *later = block.resnets
    x = _residual(first, x, caches)
    for attention, residual in zip(block.attentions, later, strict=True):
        x = _residual(residual, _attention(attention, x), caches)
    return x


def _residual(block: WanResidualBlock, x: Tensor, caches: Caches) -> Tensor:
    shortcut = x
    if isinstance(block.conv_shortcut, WanCausalConv3d):
        shortcut = F.conv3d(x, block.conv_shortcut.weight, block.conv_shortcut.bias)
    # A GPU would add each bias by a kernel of its own, so others add it.
    x = _causal(block.conv1, x, caches, norm=block.norm1, is_biased=False)
    x = _causal(block.conv2, x, caches, norm=block.norm2, lacks=block.conv1.bias, is_biased=False)
    return add_biased(x, block.conv2.bias, shortcut)


def _causal(
    conv: WanCausalConv3d,
    x: Tensor,
    caches: Caches,
    *,
    norm: WanRMS_norm | None = None,
    lacks: Tensor | None = None,
    is_biased: bool = True,
) -> Tensor:
    """A causal convolution of a piece and the frames before it, after norm and SiLU if there is a
    norm. Before the first piece frames are zero.

    The norm adds the bias that x `lacks`; the result lacks the convolution's if not `is_biased`.
    """
    batch, channels, frames, height, width = x.shape
    whole = torch.empty(
        (batch, channels, LOOK_BACK + frames, height, width),
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last_3d,
    )
    whole[:, :, :LOOK_BACK] = caches.get(conv, 0)
    if norm is None:
        whole[:, :, LOOK_BACK:] = x
    else:
        norm_silu(x, norm.gamma, lacks, out=whole[:, :, LOOK_BACK:])
    caches[conv] = whole[:, :, -LOOK_BACK:].clone()
    margin = conv.kernel_size[1] // 2
    bias = conv.bias if is_biased else None
    return F.conv3d(whole, conv.weight, bias, conv.stride, padding=(0, margin, margin))


def norm_silu(x: Tensor, gamma: Tensor, bias: Tensor | None = None, *, out: Tensor) -> None:
    """Writes SiLU(gamma sqrt(C) y / |y|) into `out`, with y = x + bias and |y| over the C channels.

    x and `out` are [B, C, F, H, W] with channels last in memory, gamma [C, 1, 1, 1], bias [C].
    """
    if takes_kernels(x):
        from farm.model import vae_kernels

        vae_kernels.norm_silu(x, gamma, bias, out)
        return
    if bias is not None:
        x = x + _of_channels(bias)
    scaled = F.normalize(x.float(), dim=1).to(x.dtype) * len(gamma) ** 0.5 * gamma
    out.copy_(F.silu(scaled))


def add_biased(x: Tensor, bias: Tensor, added: Tensor) -> Tensor:
    """The sum of x, a bias [C] and another tensor like x."""
    if takes_kernels(x):
        from farm.model import vae_kernels

        return vae_kernels.add_biased(x, bias, added)
    return x + _of_channels(bias) + added


def _of_channels(bias: Tensor) -> Tensor:
    return bias[:, None, None, None]


def _attention(block: WanAttentionBlock, x: Tensor) -> Tensor:
    """Attention within each frame."""
    batch, channels, frames, height, width = x.shape
    rows = F.normalize(x, dim=1) * block.norm.scale * block.norm.gamma[..., None]
    rows = rows.permute(0, 2, 3, 4, 1).reshape(batch * frames, 1, height * width, channels)
    query, key, value = F.linear(rows, block.to_qkv.weight.flatten(1), block.to_qkv.bias).chunk(
        3, dim=-1
    )
    rows = F.scaled_dot_product_attention(query, key, value)
    rows = F.linear(rows, block.proj.weight.flatten(1), block.proj.bias)
    drawn = rows.reshape(batch, frames, height, width, channels).permute(0, 4, 1, 2, 3)
    return x + drawn


def _upsample(resample: WanResample, x: Tensor, caches: Caches, *, is_first: bool) -> Tensor:
    """Twice the height and width, and of all but the first latent frame twice the frames."""
    if resample.mode == "upsample3d" and not is_first:
        x = _two_frames_each(_causal(resample.time_conv, x, caches))
    conv = resample.resample[-1]
    return _frames(conv(_twice_as_large(_rows(x))), like=x)


def _twice_as_large(images: Tensor) -> Tensor:
    """[N, C, H, W] in, [N, C, 2 H, 2 W] out, with each pixel as a square of four."""
    pixels = images.permute(0, 2, 3, 1)[:, :, None, :, None]
    squares = pixels.expand(-1, -1, 2, -1, 2, -1)
    return squares.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def _two_frames_each(x: Tensor) -> Tensor:
    """[B, 2 C, F, H, W], in which each frame holds two, to [B, C, 2 F, H, W]."""
    batch, channels, frames, height, width = x.shape
    pairs = x.permute(0, 2, 3, 4, 1).reshape(batch, frames, height, width, 2, channels // 2)
    in_order = pairs.permute(0, 1, 4, 2, 3, 5).flatten(1, 2)
    return in_order.permute(0, 4, 1, 2, 3)


def _downsample(resample: WanResample, x: Tensor, caches: Caches) -> Tensor:
    """Half the height and width, and of all but the first frame half the frames."""
    x = _frames(resample.resample(_rows(x)), like=x)
    if resample.mode != "downsample3d":
        return x
    conv = resample.time_conv
    before = caches.get(conv)
    caches[conv] = x[:, :, -1:].clone()
    if before is None:
        return x
    return F.conv3d(torch.cat([before, x], dim=2), conv.weight, conv.bias, conv.stride)


def _rows(x: Tensor) -> Tensor:
    """The frames of all videos as images [B F, C, H, W]."""
    return x.transpose(1, 2).flatten(0, 1)


def _frames(rows: Tensor, *, like: Tensor) -> Tensor:
    """The inverse, for as many videos as `like` has."""
    return rows.unflatten(0, (len(like), -1)).transpose(1, 2)
