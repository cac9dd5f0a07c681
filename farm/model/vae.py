"""The video autoencoder: Wan's, with normalised latents and several latents a call.

The stock class walks through a video four frames at a time, which leaves a CPU (and a small model
on a GPU) idle between calls. The causal convolutions' caches accept longer pieces with the same
result, to rounding.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    patchify,
    unpatchify,
)
from torch import Tensor

from farm.model.transformer import TEMPORAL_STRIDE


class VideoAutoencoder:
    """Video to latents of about unit variance, and back; float32.

    Video is [..., 3, F, H, W] in [-1, 1], latents are [..., 16, T, H/8, W/8]. A model with a patch
    size treats squares of that many pixels as one pixel with more channels.
    """

    def __init__(self, model: AutoencoderKLWan, *, latents_per_call: int = 4) -> None:
        self.model = model.eval()
        self._latents_per_call = latents_per_call
        self._patch_size = model.config.patch_size or 1
        mean = torch.tensor(model.config.latents_mean, device=model.device)
        std = torch.tensor(model.config.latents_std, device=model.device)
        self._mean = mean.view(-1, 1, 1, 1)
        self._std = std.view(-1, 1, 1, 1)

    def encode(self, video: Tensor) -> Tensor:
        """The posterior's mean; F must be 4n + 1, and T is n + 1."""
        x = patchify(video.reshape(-1, *video.shape[-4:]), self._patch_size)
        caches: list[Tensor | None] = [None] * self.model._cached_conv_counts["encoder"]
        # The first latent stands for one frame, each later one for four.
        later = x[:, :, 1:].split(TEMPORAL_STRIDE * self._latents_per_call, dim=2)
        moments = [
            self.model.encoder(piece, feat_cache=caches, feat_idx=[0])
            for piece in (x[:, :, :1], *later)
            if piece.shape[2]
        ]
        mean = self.model.quant_conv(torch.cat(moments, dim=2)).chunk(2, dim=1)[0]
        latents = (mean - self._mean) / self._std
        return latents.reshape(*video.shape[:-4], *latents.shape[1:])

    def decode(self, latents: Tensor) -> Tensor:
        """The video, clamped to [-1, 1]; F is 4 (T - 1) + 1."""
        return self.decode_unclamped(latents).clamp(-1, 1)

    def decode_unclamped(self, latents: Tensor) -> Tensor:
        """The video as the decoder draws it, a little beyond [-1, 1] here and there."""
        z = latents.reshape(-1, *latents.shape[-4:])
        z = self.model.post_quant_conv(z * self._std + self._mean)
        caches: list[Tensor | None] = [None] * self.model._cached_conv_counts["decoder"]
        pieces = [
            z[:, :, :1],
            *z[:, :, 1:].split(self._latents_per_call, dim=2),
        ]
        frames = [
            self.model.decoder(piece, feat_cache=caches, feat_idx=[0], first_chunk=index == 0)
            for index, piece in enumerate(pieces)
            if piece.shape[2]
        ]
        video = unpatchify(torch.cat(frames, dim=2), self._patch_size)
        return video.reshape(*latents.shape[:-4], *video.shape[1:])

    def condition(self, image: Tensor, frame_num: int) -> Tensor:
        """The image condition of a chunk, [..., 4 + 16, T, H/8, W/8].

        A mask that is one in latent frame 0, then the latents of `image` [..., 3, H, W] followed by
        mid grey.
        """
        grey = image.new_zeros(*image.shape[:-2], frame_num - 1, *image.shape[-2:])
        latents = self.encode(torch.cat([image.unsqueeze(-3), grey], dim=-3))
        mask = torch.zeros_like(latents[..., :4, :, :, :])
        mask[..., 0, :, :] = 1
        return torch.cat([mask, latents], dim=-4)
