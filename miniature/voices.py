"""The voices of the training set, and the movement of the lips that belongs to them.

    python -m miniature.voices OUT.safetensors

synthesises the sentences with espeak-ng in about 15 s. To draw recordings from that file, torch,
numpy and safetensors are enough.
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

from miniature.noises import (
    RATE,
    babble,
    coloured_noise,
    mains_hum,
    music,
    uniform,
)
from miniature.sentences import HELD_OUT, TRAINED

VARIANTS = (
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
"""None is breathy, because breath differs at each synthesis; only the plain one is held out too."""

Sentences = Mapping[str, Sequence[str]]
"""Sentences by the voice that says them."""

FRAME = 640
"""Samples from one video frame to the next, at 25 a second."""

WINDOW = 1920
"""Samples that decide about the lips of a frame: the 120 ms around its centre."""

CLOSED = 0.08
WIDE_OPEN = 2.0
"""Loudness at which the mouth begins to open and opens no further, relative to the recording's."""

# ---- the corpus, made once


def corpus(
    trained: Sentences = TRAINED,
    held_out: Sentences = HELD_OUT,
    *,
    seed: int = 0,
    sayings: int = 2,
) -> dict[str, NDArray[np.generic]]:
    """Every sentence synthesised, always the same for one seed.

    `samples` int16 [n] at 16 kHz, every clip at -23 LUFS; `ends` int64 [clips], the end of each
    clip; `held_out` bool [clips]. Each trained sentence is said `sayings` times, each time with
    another voice variant, speed and pitch.
    """
    rng = random.Random(seed)
    trained_clips: list[NDArray[np.int16]] = []
    for _ in range(sayings):
        trained_clips += _synthesise(trained, VARIANTS, rng)
    held_out_clips = list(_synthesise(held_out, ("",), rng))
    clips = trained_clips + held_out_clips
    return {
        "samples": np.concatenate(clips),
        "ends": np.cumsum([len(clip) for clip in clips]),
        "held_out": np.array([False] * len(trained_clips) + [True] * len(held_out_clips)),
    }


def _synthesise(
    sentences_of: Sentences, variants: tuple[str, ...], rng: random.Random
) -> Iterator[NDArray[np.int16]]:
    """Each sentence as int16 [n] at 16 kHz."""
    from farm.media.audio import normalise_loudness, resample
    from farm.media.speech import synthesise

    for voice, sentences in sentences_of.items():
        for sentence in sentences:
            speed_wpm = rng.randint(110, 220)
            pitch = rng.randint(10, 90)
            sound = synthesise(
                sentence,
                voice + rng.choice(variants),
                speed_wpm=speed_wpm,
                pitch=pitch,
            )
            clip = normalise_loudness(resample(*sound, RATE))
            yield np.clip(np.round(clip * 32768), -32768, 32767).astype(np.int16)


# ---- the lips


def opening(clean: Tensor) -> Tensor:
    """The opening of the mouth, [B, frames] from 0 to 1, for clean 16 kHz speech [B, n].

    The loudness under a 120 ms Hann window around the centre of each of 25 frames a second,
    relative to that of the recording, so a gain makes no difference. Ordinary speech opens the
    mouth half, and silence closes it.
    """
    power = windows(clean).square().mean(dim=2)
    return ((_loudness(power) - CLOSED) / (WIDE_OPEN - CLOSED)).clamp(0, 1) ** 0.8


def spread(clean: Tensor) -> Tensor:
    """The spread of the lips, [B, frames] from -1 (round, as in oo) to 1 (as in ee and s).

    The balance of the bands above 1,800 Hz and from 150 to 600 Hz, in the windows of `opening`; 0
    in silence.
    """
    around = windows(clean)
    power = torch.fft.rfft(around).abs().square()
    # A bin is 8.3 Hz wide.
    low = power[..., 18:72].sum(dim=2)
    high = power[..., 216:900].sum(dim=2)
    balance = torch.log10((high + 1e-9) / (low + 1e-9))
    loudness = _loudness(around.square().mean(dim=2))
    return torch.tanh(1.2 * (balance + 0.7)) * (2 * loudness).clamp(max=1)


def windows(clean: Tensor) -> Tensor:
    """The samples around each frame's centre under a Hann window, [B, frames, WINDOW]."""
    margin = (WINDOW - FRAME) // 2
    around = torch.nn.functional.pad(clean, (margin, margin))
    return around.unfold(1, WINDOW, FRAME) * torch.hann_window(WINDOW, device=clean.device)


def _loudness(power: Tensor) -> Tensor:
    """Amplitudes of powers [B, frames], relative to the mean over speech; 0 in rows without speech.

    Speech is above -70 dB and at most 10 dB below the mean of that: the gates of ITU-R BS.1770.
    """
    present = _mean(power, power > 1e-7)
    speech = _mean(power, (power > 1e-7) & (power > present / 10))
    return torch.where(speech > 0, power / speech, 0).sqrt()


def _mean(power: Tensor, where: Tensor) -> Tensor:
    """[B, 1], over the frames where `where` is true; 0 if there are none."""
    count = where.sum(dim=1, keepdim=True).clamp(min=1)
    return (power * where).sum(dim=1, keepdim=True) / count


# ---- recordings


class Voices:
    """The corpus on a device, and random recordings of any length made of it."""

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
        """Recordings with noise and their clean speech: float32 [B, n] each, at 16 kHz.

        Sentences of random voices and speeds, with pauses. In three of ten recordings a part is
        silenced, usually a short one, and one of eight has no speech at all. Half of them have
        noise, 5 to 30 dB below the voice, with or without speech.
        """
        draw = partial(self._draw, batch, generator)
        clean = self.sentences(batch, seconds, generator)
        samples = clean.shape[1]
        clock = torch.arange(samples, device=self.device)
        begin = draw(0, samples)
        length = draw(0.05, 0.95) ** 2 * samples
        has_gap = draw(0, 1) < 0.3
        clean[has_gap & (clock >= begin) & (clock < begin + length)] = 0
        clean *= draw(0, 1) >= 0.12
        noise = self._noises(batch, seconds, generator) * self.amplitude
        noise = noise * 10 ** (-draw(5, 30) / 20)
        gain = 10 ** draw(-0.5, 0.3)
        return gain * (clean + noise), gain * clean

    def conversations(
        self, batch: int, seconds: float, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Recordings and clean speech of two speakers: float32 [B, 2, n] each.

        In two thirds they take turns and the track of the listener is silent, without noise; in the
        rest they speak at once, or one of them never does.
        """
        noisy, clean = self.recordings(2 * batch, seconds, generator)
        noisy = noisy.unflatten(0, (batch, 2))
        clean = clean.unflatten(0, (batch, 2))
        draw = partial(self._draw, batch, generator)
        clock = torch.arange(clean.shape[2], device=self.device) / RATE
        offset_s = draw(0, 10)
        turn = ((clock + offset_s) / draw(0.7, 4)).long() % 2
        kind = draw(0, 1)
        listener = draw(0, 2).long()
        one_or_none = torch.where(kind < 0.85, listener, -1)
        silent = torch.where(kind < 0.65, turn, one_or_none)
        speaks = torch.stack([silent != 0, silent != 1], dim=1)
        return noisy * speaks, clean * speaks

    def sentences(self, batch: int, seconds: float, generator: Generator) -> Tensor:
        """Clips one after the other, float32 [B, n], with pauses between them.

        Each is resampled to 0.82 to 1.22 times its speed and pitch.
        """
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
        # The position of each sample within its clip, between two of the clip's samples.
        clock = torch.arange(samples, device=self.device, dtype=torch.float64)
        clock = clock.expand(batch, -1).contiguous()
        link = (torch.searchsorted(starts, clock, right=True) - 1).clamp(min=0)
        position = (clock - starts.gather(1, link)) * speed.gather(1, link)
        inside = (position >= 0) & (position < self.lengths[clip].gather(1, link) - 1)
        left = position.floor().long().clamp(min=0) + self.begins[clip].gather(1, link)
        left = left.clamp(max=len(self.samples) - 2)
        fraction = position.frac().float()
        sound = self.samples[left] * (1 - fraction) + self.samples[left + 1] * fraction
        return sound * inside / 32768

    def _noises(self, batch: int, seconds: float, generator: Generator) -> Tensor:
        """[B, n]: about half of the rows with noise of all kinds, at a mean power of 1."""

        def make_babble(rows: int, _: int, generator: Generator) -> Tensor:
            return babble(self.sentences(rows, seconds, generator), generator)

        makes = (coloured_noise, mains_hum, music, make_babble)
        # Twice as many kinds as there are, so that half of the rows stay silent.
        kind = self._draw(batch, generator, 0, len(makes) / 0.5).squeeze(1).long()
        noises = torch.zeros(batch, round(seconds * RATE), device=self.device)
        for index, make in enumerate(makes):
            rows = int((kind == index).sum())
            if rows:
                noise = make(rows, noises.shape[1], generator)
                noises[kind == index] = noise.to(self.device)
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
        return uniform(low, high, (batch, links), generator).to(self.device)


if __name__ == "__main__":
    save_file(corpus(), sys.argv[1])
