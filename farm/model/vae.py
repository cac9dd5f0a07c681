"""The video autoencoder: Wan's, with normalised latents and several latents in a call.

The stock class walks through a video four frames at a time, which leaves a CPU (and a small model on a GPU) idle
between calls. The causal convolutions' caches accept longer pieces with the same result, to rounding.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from farm.model.transformer import TEMPORAL_STRIDE


class VideoAutoencoder:
    """Video [3, F, H, W] in [-1, 1] to latents [16, T, H/8, W/8] of about unit variance, and back; float32."""

    def __init__(self, model: AutoencoderKLWan, *, latents_in_a_call: int = 4) -> None:
        self.model = model.eval()
        self._piece = latents_in_a_call
        self._mean = torch.tensor(model.config.latents_mean, device=model.device).view(-1, 1, 1, 1)
        self._std = torch.tensor(model.config.latents_std, device=model.device).view(-1, 1, 1, 1)

    def encode(self, video: Tensor) -> Tensor:
        """The posterior's mean; F must be 4n + 1, and T is n + 1."""
        first, later = video[None, :, :1], video[None, :, 1:].split(TEMPORAL_STRIDE * self._piece, dim=2)
        caches: list[Tensor | None] = [None] * self.model._cached_conv_counts["encoder"]
        pieces = [
            self.model.encoder(piece, feat_cache=caches, feat_idx=[0]) for piece in (first, *later) if piece.shape[2]
        ]
        mean = self.model.quant_conv(torch.cat(pieces, dim=2)).chunk(2, dim=1)[0]
        return (mean[0] - self._mean) / self._std

    def decode(self, latents: Tensor) -> Tensor:
        """The video, clamped to [-1, 1]; F is 4 (T - 1) + 1."""
        z = self.model.post_quant_conv((latents * self._std + self._mean)[None])
        caches: list[Tensor | None] = [None] * self.model._cached_conv_counts["decoder"]
        pieces = [
            self.model.decoder(piece, feat_cache=caches, feat_idx=[0], first_chunk=index == 0)
            for index, piece in enumerate((z[:, :, :1], *z[:, :, 1:].split(self._piece, dim=2)))
            if piece.shape[2]
        ]
        return torch.cat(pieces, dim=2)[0].clamp(-1, 1)

    def condition(self, image: Tensor, frame_num: int) -> Tensor:
        """What the model sees of its picture: [4 + 16, T, H/8, W/8], a mask that is one in latent frame 0, then the
        latents of `image` [3, H, W] followed by mid grey.
        """
        grey = image.new_zeros(3, frame_num - 1, *image.shape[1:])
        latents = self.encode(torch.cat([image[:, None], grey], dim=1))
        mask = latents.new_zeros(4, *latents.shape[1:])
        mask[:, 0] = 1
        return torch.cat([mask, latents])
