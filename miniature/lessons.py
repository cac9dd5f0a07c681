"""What the video transformer learns from: clips as the numbers that it will be given when it works."""

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
from miniature.clips import MOUTH, Clips
from miniature.studio import Studio

FRAMES = 81
MOTION_LATENTS = 3

MOST_WORN = 4
"""Times at most that what a clip goes on from was decoded and encoded again. A model that learns to take the face from
the picture instead does not lose it over a long video."""

USUALLY = 5.0
"""How much a mouth moves: the variance over time of its latents, added up. Measured from 1 to 12."""

RECORDING_S = 12.0
"""A clip hears a piece of a recording that was encoded as a whole, as it will be."""


@dataclass(frozen=True)
class Lessons:
    """B clips; T latent frames of h x w."""

    latents: Tensor
    """[B, 16, T, h, w]: the clip itself."""
    condition: Tensor
    """[B, 20, T, h, w]: mask and latents of the picture."""
    motion: Tensor
    """[B, 16, 3, h, w]: what the clip begins with, as a job would have it."""
    known: Tensor
    """[B]: how many of those latents it has, 1 or 3."""
    image: Tensor
    """[B, 257, image_dim]."""
    rows: Tensor
    """[B, S, F + 4, layers, dim]: what is heard."""
    regions: Tensor
    """[B, 3, tokens of a latent frame]."""
    weight: Tensor
    """[B, 1, 1, h, w]: how much each latent counts."""

    def some(self, rows: Tensor) -> Lessons:
        """The lessons at these indices."""
        return Lessons(**{each.name: getattr(self, each.name)[rows] for each in fields(self)})

    def unheard(self) -> Lessons:
        """The same pictures in silence, which is one speaker's however many there are."""
        return replace(self, rows=torch.zeros_like(self.rows[:, :1]))

    def audio(self, heard: Tensor) -> tuple[Tensor, Tensor]:
        """The windows of the speech; silence where `heard` [B] is false."""
        return audio_windows(self.rows.float() * heard.view(-1, 1, 1, 1, 1))


def joined(lessons: list[Lessons]) -> Lessons:
    """All of them as one batch."""
    return Lessons(
        **{
            each.name: torch.cat([getattr(one, each.name) for one in lessons])
            for each in fields(Lessons)
        }
    )


@dataclass(frozen=True)
class Teacher:
    """Makes lessons with the models that are trained before the transformer."""

    studio: Studio
    hear: nn.Module
    look: ImageEncoder
    vae: VideoAutoencoder

    @torch.no_grad()
    def lessons(
        self,
        dice: torch.Generator,
        batch: int,
        speakers: int,
        size: tuple[int, int],
    ) -> Lessons:
        """A batch of clips that all begin a video, or all are from the middle of one."""
        with torch.autocast(dice.device.type, torch.bfloat16, enabled=dice.device.type == "cuda"):
            return self._made(dice, batch, speakers, size)

    def _made(
        self,
        dice: torch.Generator,
        batch: int,
        speakers: int,
        size: tuple[int, int],
    ) -> Lessons:
        heard, said = self.studio.spoken(dice, batch, speakers, RECORDING_S)
        start, begins, rounds = (
            int(each) for each in torch.randint(0, 200, (3,), generator=dice, device=dice.device)
        )
        begins = begins % 2 == 0
        rounds = rounds % (MOST_WORN + 1)
        start = max(LOOK_BEHIND, start)
        clips = self.studio.filmed(dice, said, start, FRAMES, size, begins=begins)
        rows = embeddings(self.hear, heard.flatten(0, 1)).unflatten(0, (batch, speakers))
        latents = self.vae.encode(clips.video)
        motion = latents[:, :, :MOTION_LATENTS] if begins else self._worn(dice, latents, rounds)
        return Lessons(
            latents=latents.bfloat16(),
            condition=self.vae.condition(clips.picture, FRAMES).bfloat16(),
            motion=motion.bfloat16(),
            known=torch.full((batch,), 1 if begins else MOTION_LATENTS, device=latents.device),
            image=torch.cat([self.look(picture) for picture in clips.picture]).bfloat16(),
            rows=rows[:, :, start - LOOK_BEHIND : start + FRAMES + LOOK_AHEAD].bfloat16(),
            regions=clips.regions,
            weight=_on_latents(clips, latents),
        )

    def _worn(self, dice: torch.Generator, latents: Tensor, rounds: int) -> Tensor:
        """The first latents after so many times of decoding and encoding, as later chunks get them, and a little noise.

        Sometimes none and no noise, else a chain would learn nothing from a clean start.
        """
        motion = latents[:, :, :MOTION_LATENTS]
        for _ in range(rounds):
            motion = self.vae.encode(self.vae.decode(motion))
        amount = (
            0.05 * rounds * torch.rand(len(motion), 1, 1, 1, 1, generator=dice, device=dice.device)
        )
        return motion + amount * torch.randn(motion.shape, generator=dice, device=dice.device)


def _on_latents(clips: Clips, latents: Tensor) -> Tensor:
    """The weights of the pixels as those of the latents.

    Those of a mouth are the higher the less the latents move there, for a small or dark one speaks as well.
    """
    weight = F.max_pool3d(clips.weight, (1, 8, 8))
    mouths = weight >= MOUTH
    moving = (latents.var(2, keepdim=True).mean(1, keepdim=True) * mouths).sum(
        (2, 3, 4), keepdim=True
    )
    return torch.where(mouths, weight * USUALLY / (1 + moving), weight)
