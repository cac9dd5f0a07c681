"""Joins voices and faces: clips in which drawn people say what is heard."""

from __future__ import annotations

import torch
from torch import Tensor

from miniature.acting import FPS
from miniature.clips import (
    Clips,
    clips_from_middle,
    clips_from_start,
    sample_scene,
)
from miniature.face import Sampler
from miniature.voices import Voices, opening, spread


class Studio:
    """Makes batches of clips from the voices of the training set."""

    def __init__(self, voices: Voices) -> None:
        self.voices = voices

    def clips(
        self,
        rng: torch.Generator,
        batch: int,
        speakers: int,
        frames: int,
        size: tuple[int, int],
        *,
        near: float = 1.0,
    ) -> Clips:
        """Clips that begin a video or, as often, from the middle of one.

        Size is (height, width).
        """
        _, clean = self.speech(rng, batch, speakers, (frames + 1) / FPS)
        begins = bool(Sampler(1, rng).bernoulli(0.5))
        return self.render(rng, clean, 0, frames, size, begins=begins, near=near)

    def speech(
        self, rng: torch.Generator, batch: int, speakers: int, seconds: float
    ) -> tuple[Tensor, Tensor]:
        """Recordings with noise and their clean speech, both [B, S, n]."""
        if speakers == 2:
            return self.voices.conversations(batch, seconds, rng)
        noisy, clean = self.voices.recordings(batch, seconds, rng)
        return noisy[:, None], clean[:, None]

    def render(
        self,
        rng: torch.Generator,
        clean: Tensor,
        start: int,
        frames: int,
        size: tuple[int, int],
        *,
        begins: bool,
        near: float = 1.0,
    ) -> Clips:
        """The speakers of `clean` speech [B, S, n] from frame `start` on, `near` times nearer."""
        batch, speakers = clean.shape[:2]
        sampler = Sampler(batch, rng)
        shown = slice(start, start + frames)
        speech = clean.flatten(0, 1)
        openings = opening(speech).unflatten(0, (batch, speakers))[..., shown]
        spreads = spread(speech).unflatten(0, (batch, speakers))[..., shown]
        scene = sample_scene(sampler, speakers, *size)
        if near != 1:
            scene = scene.zoomed(sampler, near)
        make_clips = clips_from_start if begins else clips_from_middle
        return make_clips(sampler, scene, openings, spreads, size)
