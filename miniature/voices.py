"""The voices that the miniature learns from, and how wide a mouth opens to say what they say.

    python -m miniature.voices OUT.safetensors

speaks the sentences with espeak-ng, which takes a quarter of a minute. To draw recordings from that file, torch, numpy
and safetensors are enough.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import ceil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from safetensors.torch import load_file
from torch import Generator, Tensor

from miniature.noises import RATE, between, colours, crowd, hum, music
from miniature.sentences import HELD_OUT, TRAINED

TIMBRES = (
    "",
    "+m1",
    "+m3",
    "+m5",
    "+m7",
    "+f1",
    "+belinda",
    "+steph",
    "+Andy",
    "+Annie",
    "+klatt2",
    "+grandma",
)
"""All without breath, which is another noise each time; none but the plain one is a held-out voice's."""

Said = Mapping[str, Sequence[str]]
"""Sentences by the voice that says them."""

FRAME, WINDOW = 640, 1920
"""Samples from one video frame to the next at 25 a second, and in the 120 ms around a frame's centre that its lips
answer to."""

CLOSED, WIDE_OPEN = 0.08, 2.0
"""Where the mouth begins to open and where it opens no further, as multiples of the voice's own loudness."""

# ---- the corpus, made once


def corpus(
    trained: Said = TRAINED,
    held_out: Said = HELD_OUT,
    *,
    seed: int = 0,
    sayings: int = 2,
) -> dict[str, NDArray[np.generic]]:
    """Every sentence spoken, always the same for one seed.

    `samples` int16 [n] at 16 kHz, every clip at -23 LUFS; `ends` int64 [clips], where each clip ends; `held_out` bool
    [clips]. Each trained sentence is said `sayings` times, by another voice, slower or faster, higher or lower.
    """
    dice = random.Random(seed)
    clips = [(clip, False) for _ in range(sayings) for clip in _spoken(trained, TIMBRES, dice)]
    clips += [(clip, True) for clip in _spoken(held_out, ("",), dice)]
    return {
        "samples": np.concatenate([clip for clip, _ in clips]),
        "ends": np.cumsum([len(clip) for clip, _ in clips]),
        "held_out": np.array([unheard for _, unheard in clips]),
    }


def _spoken(
    said: Said, timbres: tuple[str, ...], dice: random.Random
) -> Iterator[NDArray[np.int16]]:
    """Each sentence as int16 [n] at 16 kHz."""
    from farm.media.audio import normalise_loudness, resample
    from farm.media.speech import synthesise

    for voice, sentences in said.items():
        for sentence in sentences:
            speed_wpm = dice.randint(110, 220)
            pitch = dice.randint(10, 90)
            sound = synthesise(
                sentence,
                voice + dice.choice(timbres),
                speed_wpm=speed_wpm,
                pitch=pitch,
            )
            clip = normalise_loudness(resample(*sound, RATE))
            yield np.clip(np.round(clip * 32768), -32768, 32767).astype(np.int16)


# ---- what lips do


def opening(spoken: Tensor) -> Tensor:
    """How far a mouth opens, [B, frames] from 0, closed, to 1, at 25 a second, for clean 16 kHz speech [B, n].

    The loudness under a 120 ms Hann window around each frame's centre, as a multiple of the recording's own: how loud
    the recording is makes no difference. Ordinary speech opens it half, and silence closes it wholly.
    """
    power = windows(spoken).square().mean(dim=2)
    return ((_loudness(power) - CLOSED) / (WIDE_OPEN - CLOSED)).clamp(0, 1) ** 0.8


def width(spoken: Tensor) -> Tensor:
    """How wide lips are drawn, [B, frames] from -1, round as for oo, to 1, as for ee and s; 0 in silence.

    The balance of sounds above 1,800 Hz and between 150 and 600, in the windows of `opening`.
    """
    around = windows(spoken)
    power = torch.fft.rfft(around).abs().square()
    low, high = (power[..., begin:end].sum(dim=2) for begin, end in ((18, 72), (216, 900)))
    balance = torch.log10((high + 1e-9) / (low + 1e-9))
    return torch.tanh(1.2 * (balance + 0.7)) * (2 * _loudness(around.square().mean(dim=2))).clamp(
        max=1
    )


def windows(spoken: Tensor) -> Tensor:
    """The sound around each frame's centre, faded out to both sides, [B, frames, WINDOW]."""
    around = torch.nn.functional.pad(spoken, ((WINDOW - FRAME) // 2, (WINDOW - FRAME) // 2))
    return around.unfold(1, WINDOW, FRAME) * torch.hann_window(WINDOW, device=spoken.device)


def _loudness(power: Tensor) -> Tensor:
    """Powers [B, frames] as amplitudes, as multiples of the mean of those that are speech; all 0 where none is.

    Speech is what lies above -70 dB and no more than 10 dB below the mean of that: the gates of ITU-R BS.1770.
    """
    present = _mean(power, power > 1e-7)
    speech = _mean(power, (power > 1e-7) & (power > present / 10))
    return torch.where(speech > 0, power / speech, 0).sqrt()


def _mean(power: Tensor, where: Tensor) -> Tensor:
    """[B, 1]; of nothing it is 0."""
    return (power * where).sum(dim=1, keepdim=True) / where.sum(dim=1, keepdim=True).clamp(min=1)


# ---- what is heard


class Voices:
    """The corpus on a device, of which recordings of any length are drawn."""

    def __init__(
        self,
        path: Path,
        device: str | torch.device = "cpu",
        *,
        held_out: bool = False,
    ) -> None:
        stored = load_file(path, device=str(device))
        chosen = stored["held_out"] == held_out
        self.samples = stored["samples"]
        self.begins = torch.cat([stored["ends"].new_zeros(1), stored["ends"][:-1]])[chosen]
        self.lengths = stored["ends"][chosen] - self.begins
        self.device = self.samples.device
        self.amplitude = self.samples.float().square().mean().sqrt() / 32768

    def __len__(self) -> int:
        return len(self.begins)

    def clip(self, index: int) -> Tensor:
        """One sentence as it was spoken, float32 [n]."""
        begin = self.begins[index]
        return self.samples[begin : begin + self.lengths[index]] / 32768

    def recordings(self, batch: int, seconds: float, generator: Generator) -> tuple[Tensor, Tensor]:
        """What is heard and, of that, what is spoken: float32 [B, n] each, at 16 kHz.

        Sentences by voices and at speeds of all sorts, with pauses. In three of ten recordings a stretch is silenced,
        most often a short one, and in one of eight nobody speaks. In half of them there is a noise, 5 to 30 dB below
        the voice, whether anybody speaks or not.
        """
        draw = partial(self._draw, batch, generator)
        spoken = self.sentences(batch, seconds, generator)
        samples = spoken.shape[1]
        clock = torch.arange(samples, device=self.device)
        begin = draw(0, samples)
        length = draw(0.05, 0.95) ** 2 * samples
        spoken[(draw(0, 1) < 0.3) & (clock >= begin) & (clock < begin + length)] = 0
        spoken *= draw(0, 1) >= 0.12
        noise = self._noises(batch, seconds, generator) * self.amplitude * 10 ** (-draw(5, 30) / 20)
        gain = 10 ** draw(-0.5, 0.3)
        return gain * (spoken + noise), gain * spoken

    def conversations(
        self, batch: int, seconds: float, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """What is heard and spoken of two speakers: float32 [B, 2, n] each.

        In two thirds they take turns and who does not speak is silent, noise and all; in the rest they speak at once,
        or one of them never does.
        """
        heard, spoken = (
            each.unflatten(0, (batch, 2)) for each in self.recordings(2 * batch, seconds, generator)
        )
        draw = partial(self._draw, batch, generator)
        clock = torch.arange(spoken.shape[2], device=self.device) / RATE
        turn = ((clock + draw(0, 10)) / draw(0.7, 4)).long() % 2
        kind = draw(0, 1)
        listener = draw(0, 2).long()
        silent = torch.where(kind < 0.65, turn, torch.where(kind < 0.85, listener, -1))
        speaks = torch.stack([silent != 0, silent != 1], dim=1)
        return heard * speaks, spoken * speaks

    def sentences(self, batch: int, seconds: float, generator: Generator) -> Tensor:
        """Clips one after the other, float32 [B, n], each 0.82 to 1.22 times as fast and high, with pauses between."""
        samples = round(seconds * RATE)
        links = 2 + ceil(1.22 * samples / int(self.lengths.min()))
        draw = partial(self._draw, batch, generator, links=links)
        clip = draw(0, len(self)).long()
        speed = draw(0.82, 1.22).double()
        lasts = self.lengths[clip] / speed
        starts = (lasts + draw(0.1, 1.5) * RATE).cumsum(1).roll(1, 1)
        # The first clip may have begun before.
        starts[:, 0] = 0
        starts -= lasts[:, :1] * self._draw(batch, generator, -0.2, 0.9)
        clock = (
            torch.arange(samples, device=self.device, dtype=torch.float64)
            .expand(batch, -1)
            .contiguous()
        )
        link = (torch.searchsorted(starts, clock, right=True) - 1).clamp(min=0)
        place = (clock - starts.gather(1, link)) * speed.gather(1, link)
        inside = (place >= 0) & (place < self.lengths[clip].gather(1, link) - 1)
        left = (place.floor().long().clamp(min=0) + self.begins[clip].gather(1, link)).clamp(
            max=len(self.samples) - 2
        )
        part = place.frac().float()
        sound = self.samples[left] * (1 - part) + self.samples[left + 1] * part
        return sound * inside / 32768

    def _noises(self, batch: int, seconds: float, generator: Generator) -> Tensor:
        """[B, n]: every other row at a mean power of 1, of all sorts, the others silent."""
        makes = (
            colours,
            hum,
            music,
            lambda rows, _, dice: crowd(self.sentences(rows, seconds, dice), dice),
        )
        sort = self._draw(batch, generator, 0, len(makes) / 0.5).squeeze(1).long()
        noises = torch.zeros(batch, round(seconds * RATE), device=self.device)
        for index, make in enumerate(makes):
            if rows := int((sort == index).sum()):
                noises[sort == index] = make(rows, noises.shape[1], generator).to(self.device)
        return noises

    def _draw(
        self,
        batch: int,
        generator: Generator,
        low: float,
        high: float,
        *,
        links: int = 1,
    ) -> Tensor:
        """A number between `low` and `high` for each row, [B, links]."""
        return between(low, high, (batch, links), generator).to(self.device)


if __name__ == "__main__":
    save_file(corpus(), sys.argv[1])
