"""The video autoencoder: Wan's, with normalised latents, walked in pieces of several latents.

The stock class walks through a video four frames at a time, which leaves a CPU (and a small model
on a GPU) idle between calls. The causal convolutions' caches accept longer pieces with the same
result, to rounding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import TypeVar

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanDecoder3d, patchify, unpatchify
from torch import Tensor

from farm.logs import log
from farm.model.transformer import TEMPORAL_STRIDE
from farm.model.vae_walk import Caches, Encoding, decode_piece, set_channels_last

Made = TypeVar("Made")


class VideoAutoencoder:
    """Video to latents of about unit variance, and back; float32.

    Video is [..., 3, F, H, W] in [-1, 1], latents are [..., 16, T, H/8, W/8]. A model with a patch
    size treats squares of that many pixels as one pixel with more channels.

    A GPU decodes twice as fast in float16, which is eight times nearer to float32 than bfloat16.
    Frames are encoded in float32 always: a video passes their errors on from chunk to chunk.
    """

    def __init__(
        self,
        model: AutoencoderKLWan,
        *,
        latents_per_call: int = 4,
        decoder_dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model = model.eval()
        set_channels_last(model)
        self._decoders = [model.decoder]
        if decoder_dtype != torch.float32:
            self._decoders.insert(0, deepcopy(model.decoder).to(decoder_dtype))
        self._latents_per_call = latents_per_call
        self._patch_size = model.config.patch_size or 1
        mean = torch.tensor(model.config.latents_mean, device=model.device)
        std = torch.tensor(model.config.latents_std, device=model.device)
        self._mean = mean.view(-1, 1, 1, 1)
        self._std = std.view(-1, 1, 1, 1)

    def encode(self, video: Tensor) -> Tensor:
        """The posterior's mean; F must be 4n + 1, and T is n + 1."""
        x = self._patchified(video)
        # The first latent stands for one frame, each later one for four.
        frames = self.frames_of_pieces(1 + x.shape[2] // TEMPORAL_STRIDE)
        encoding = Encoding(self.model.encoder)
        moments = [encoding.moments(piece) for piece in x.split(frames, dim=2)]
        return self._latents(moments, video.shape)

    def _patchified(self, video: Tensor) -> Tensor:
        return patchify(video.reshape(-1, *video.shape[-4:]), self._patch_size)

    def _latents(self, moments: Sequence[Tensor], shape: torch.Size) -> Tensor:
        """The normalised means of the moments of all pieces, for videos of a shape."""
        mean = self.model.quant_conv(torch.cat(list(moments), dim=2)).chunk(2, dim=1)[0]
        normalised = (mean - self._mean) / self._std
        return normalised.reshape(*shape[:-4], *normalised.shape[1:])

    def decode(self, latents: Tensor) -> Tensor:
        """The video, clamped to [-1, 1]; F is 4 (T - 1) + 1."""
        return self.decode_unclamped(latents).clamp(-1, 1)

    def decode_unclamped(self, latents: Tensor) -> Tensor:
        """The video as the decoder draws it, a little beyond [-1, 1] here and there."""
        return self.decode_pieces(latents, joined)

    def decode_pieces(self, latents: Tensor, consume: Callable[[Iterator[Tensor]], Made]) -> Made:
        """What `consume` makes of the unclamped video, whose pieces it gets as they are decoded.

        If the decoder's dtype has no room for a value, an exception ends `consume` before it gets
        that piece, and it is called again with all pieces in float32.
        """
        z = latents.reshape(-1, *latents.shape[-4:])
        z = self.model.post_quant_conv(z * self._std + self._mean)
        shape = latents.shape[:-4]
        *faster, exact = self._decoders
        for decoder in faster:
            try:
                return consume(self._decoded(decoder, z, shape, check=True))
            except _Overflow as overflow:
                log("decoded_in_float32", level=logging.WARNING, overflowed=str(overflow))
        return consume(self._decoded(exact, z, shape))

    def frames_of_pieces(self, latents: int) -> list[int]:
        """How many frames each piece of a video of so many latents has."""
        first, *later = self._pieces(latents)
        return [first, *(TEMPORAL_STRIDE * piece for piece in later)]

    def _pieces(self, latents: int) -> list[int]:
        """How many latents each piece has; the first latent, of one frame, is one."""
        whole, rest = divmod(latents - 1, self._latents_per_call)
        return [1, *[self._latents_per_call] * whole, *([rest] if rest else [])]

    def _decoded(
        self, decoder: WanDecoder3d, z: Tensor, shape: torch.Size, *, check: bool = False
    ) -> Iterator[Tensor]:
        """Pieces [*shape, 3, F, H, W]; raises _Overflow instead of one that is not finite."""
        caches: Caches = {}
        z = z.to(decoder.conv_in.weight.dtype)
        for piece in z.split(self._pieces(z.shape[2]), dim=2):
            frames = unpatchify(decode_piece(decoder, piece, caches), self._patch_size)
            if check and not frames.isfinite().all():
                raise _Overflow(frames.dtype)
            yield frames.float().reshape(*shape, *frames.shape[1:])

    def condition(self, image: Tensor, frame_num: int) -> Tensor:
        """The image condition of a chunk, [..., 4 + 16, T, H/8, W/8].

        A mask that is one in latent frame 0, then the latents of `image` [..., 3, H, W] followed by
        mid grey.
        """
        first = image.unsqueeze(-3)
        _, *later = self.frames_of_pieces(1 + (frame_num - 1) // TEMPORAL_STRIDE)
        still = {
            frames: self._patchified(
                torch.zeros_like(first).expand(*first.shape[:-3], frames, -1, -1)
            )
            for frames in set(later)
        }
        encoding = Encoding(self.model.encoder)
        moments = [encoding.moments(self._patchified(first))]
        moments += [encoding.moments(still[frames], comes_again=True) for frames in later]
        latents = self._latents(moments, first.shape)
        mask = torch.zeros_like(latents[..., :4, :, :, :])
        mask[..., 0, :, :] = 1
        return torch.cat([mask, latents], dim=-4)


def joined(pieces: Iterator[Tensor]) -> Tensor:
    """The whole video [..., 3, F, H, W] of its pieces."""
    return torch.cat(list(pieces), dim=-3)


class _Overflow(Exception):
    """A piece has values for which the decoder's dtype has no room."""
