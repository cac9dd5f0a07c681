"""The training data of the video transformer: clips as the tensors that it is given at work."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from farm.model.audio import audio_windows
from farm.model.image import ImageEncoder
from farm.model.vae import VideoAutoencoder
from farm.plan import LOOK_AHEAD, LOOK_BEHIND
from miniature.audio_encoder import embeddings
from miniature.clips import MOUTH_WEIGHT, Clips
from miniature.studio import Studio

FRAMES = 81
MOTION_LATENTS = 3

MAX_REENCODINGS = 4
"""Times that the motion frames are decoded and encoded again, at most.

A model that learns to take the face from the picture instead does not lose it over a long video.
"""

USUAL_MOVEMENT = 5.0
"""Variance over time of a mouth's latents, added up; measured from 1 to 12."""

RECORDING_S = 12.0
"""A clip hears a part of a recording that was encoded as a whole, as it is at work."""


@dataclass(frozen=True)
class TrainingBatch:
    """B clips; T latent frames of h x w."""

    latents: Tensor
    """[B, 16, T, h, w]: the clip itself."""
    condition: Tensor
    """[B, 20, T, h, w]: mask and latents of the picture."""
    motion: Tensor
    """[B, 16, 3, h, w]: the motion latents, as a job would have them."""
    known: Tensor
    """[B]: the number of motion latents that the clip begins with, 1 or 3."""
    image: Tensor
    """[B, 257, image_dim]."""
    rows: Tensor
    """[B, S, F + 4, layers, dim]: the embeddings of the speech."""
    regions: Tensor
    """[B, 3, tokens of a latent frame]."""
    weight: Tensor
    """[B, 1, 1, h, w]: the weight of each latent in the loss."""

    def select(self, items: Tensor) -> TrainingBatch:
        """The items at these indices."""
        return TrainingBatch(
            **{each.name: getattr(self, each.name)[items] for each in fields(self)}
        )

    def silenced(self) -> TrainingBatch:
        """The same pictures in silence, which is one speaker's for any number of them."""
        return replace(self, rows=torch.zeros_like(self.rows[:, :1]))

    def audio(self, has_audio: Tensor) -> tuple[Tensor, Tensor]:
        """The windows of the speech; silence where `has_audio` [B] is false."""
        return audio_windows(self.rows.float() * has_audio.view(-1, 1, 1, 1, 1))


def concatenate(batches: list[TrainingBatch]) -> TrainingBatch:
    """All of them as one batch."""
    joined = {}
    for field in fields(TrainingBatch):
        joined[field.name] = torch.cat([getattr(batch, field.name) for batch in batches])
    return TrainingBatch(**joined)


@dataclass(frozen=True)
class BatchBuilder:
    """Builds training batches with the models that are trained before the transformer."""

    studio: Studio
    audio_encoder: nn.Module
    image_encoder: ImageEncoder
    vae: VideoAutoencoder

    @torch.no_grad()
    def build(
        self,
        rng: torch.Generator,
        batch: int,
        speakers: int,
        size: tuple[int, int],
    ) -> TrainingBatch:
        """Clips that all begin a video, or that are all from the middle of one."""
        on_gpu = rng.device.type == "cuda"
        with torch.autocast(rng.device.type, torch.bfloat16, enabled=on_gpu):
            return self._build(rng, batch, speakers, size)

    def _build(
        self,
        rng: torch.Generator,
        batch: int,
        speakers: int,
        size: tuple[int, int],
    ) -> TrainingBatch:
        # 1. Random choices for all clips of the batch
        noisy, clean = self.studio.speech(rng, batch, speakers, RECORDING_S)
        draws = torch.randint(0, 200, (3,), generator=rng, device=rng.device).tolist()
        start = max(LOOK_BEHIND, draws[0])
        begins = draws[1] % 2 == 0
        reencodings = draws[2] % (MAX_REENCODINGS + 1)

        # 2. Video
        clips = self.studio.render(rng, clean, start, FRAMES, size, begins=begins)
        rows = embeddings(self.audio_encoder, noisy.flatten(0, 1))
        rows = rows.unflatten(0, (batch, speakers))
        latents = self.vae.encode(clips.video)
        motion = latents[:, :, :MOTION_LATENTS]
        known = 1
        if not begins:
            motion = self._reencode(rng, motion, reencodings)
            known = MOTION_LATENTS

        # 3. Conditions
        tokens = [self.image_encoder(picture) for picture in clips.picture]
        return TrainingBatch(
            latents=latents.bfloat16(),
            condition=self.vae.condition(clips.picture, FRAMES).bfloat16(),
            motion=motion.bfloat16(),
            known=torch.full((batch,), known, device=latents.device),
            image=torch.cat(tokens).bfloat16(),
            rows=rows[:, :, start - LOOK_BEHIND : start + FRAMES + LOOK_AHEAD].bfloat16(),
            regions=clips.regions,
            weight=_latent_weights(clips, latents),
        )

    def _reencode(self, rng: torch.Generator, motion: Tensor, times: int) -> Tensor:
        """Motion latents after decoding and encoding, as later chunks get them, and a little noise.

        Sometimes without either, else a chain would learn nothing from a clean start.
        """
        for _ in range(times):
            motion = self.vae.encode(self.vae.decode(motion))
        share = torch.rand(len(motion), 1, 1, 1, 1, generator=rng, device=rng.device)
        amount = 0.05 * times * share
        return motion + amount * torch.randn(motion.shape, generator=rng, device=rng.device)


def _latent_weights(clips: Clips, latents: Tensor) -> Tensor:
    """The weights of the pixels as those of the latents.

    A mouth's are the higher the less its latents move, so that small and dark mouths count as much.
    """
    weight = F.max_pool3d(clips.weight, (1, 8, 8))
    mouths = weight >= MOUTH_WEIGHT
    variance = latents.var(2, keepdim=True).mean(1, keepdim=True)
    movement = (variance * mouths).sum((2, 3, 4), keepdim=True)
    return torch.where(mouths, weight * USUAL_MOVEMENT / (1 + movement), weight)
