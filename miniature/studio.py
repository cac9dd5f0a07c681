"""Where voices meet faces: clips in which drawn people say what is heard."""

from __future__ import annotations

import torch
from torch import Tensor

from miniature.acting import FPS
from miniature.clips import Clips, cast, first, later
from miniature.face import Dice
from miniature.voices import Voices, opening, width


class Studio:
    """Makes batches of clips from the voices that may be trained on."""

    def __init__(self, voices: Voices) -> None:
        self.voices = voices

    def clips(
        self,
        dice_of: torch.Generator,
        batch: int,
        speakers: int,
        frames: int,
        size: tuple[int, int],
        *,
        near: float = 1.0,
    ) -> Clips:
        """Clips that begin a video and clips from the middle of one, half and half; size is (height, width)."""
        said = self.spoken(dice_of, batch, speakers, (frames + 1) / FPS)[1]
        begins = bool(Dice(1, dice_of).often(0.5))
        return self.filmed(dice_of, said, 0, frames, size, begins=begins, near=near)

    def spoken(
        self, dice_of: torch.Generator, batch: int, speakers: int, seconds: float
    ) -> tuple[Tensor, Tensor]:
        """What a microphone hears and what was said, both [B, S, n]."""
        if speakers == 2:
            return self.voices.conversations(batch, seconds, dice_of)
        heard, said = self.voices.recordings(batch, seconds, dice_of)
        return heard[:, None], said[:, None]

    def filmed(
        self,
        dice_of: torch.Generator,
        said: Tensor,
        start: int,
        frames: int,
        size: tuple[int, int],
        *,
        begins: bool,
        near: float = 1.0,
    ) -> Clips:
        """The speakers of `said` [B, S, n] from frame `start` on, from so many times nearer."""
        batch, speakers = said.shape[:2]
        dice = Dice(batch, dice_of)
        shown = slice(start, start + frames)
        opened, spread = (
            lips(said.flatten(0, 1)).unflatten(0, said.shape[:2])[..., shown]
            for lips in (opening, width)
        )
        who = cast(dice, speakers, *size)
        if near != 1:
            who = who.nearer(dice, near)
        return (first if begins else later)(dice, who, opened, spread, size)
