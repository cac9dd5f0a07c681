"""What is heard beside a voice and moves no mouth: coloured noise, mains hum, music and a crowd.

Each is float32 [B, n] at 16 kHz with a mean power of 1, on the generator's device.
"""

from __future__ import annotations

from math import tau

import torch
from torch import Generator, Tensor

RATE = 16_000


def between(low: float, high: float, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Float32 numbers, evenly spread from `low` to `high`."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def colours(batch: int, samples: int, generator: Generator) -> Tensor:
    """Noise between white and brown, a colour for each row."""
    white = torch.randn(batch, samples, generator=generator, device=generator.device)
    spectrum = torch.fft.rfft(white)
    frequency = torch.linspace(0, RATE / 2, spectrum.shape[1], device=generator.device).clamp(
        min=20
    )
    return level(
        torch.fft.irfft(spectrum * frequency ** -between(0, 1, (batch, 1), generator), samples)
    )


def hum(batch: int, samples: int, generator: Generator) -> Tensor:
    """The mains, at 50 or 60 Hz, with overtones."""
    base = 50 + 10 * between(0, 1, (batch, 1), generator).round()
    strength = between(0, 1, (batch, 8), generator)
    phase = tau * base / RATE * torch.arange(samples, device=generator.device)
    tones = [strength[:, [overtone - 1]] * torch.sin(overtone * phase) for overtone in range(1, 9)]
    return level(torch.stack(tones).sum(0))


def music(batch: int, samples: int, generator: Generator) -> Tensor:
    """Chords of three notes that are struck and fade, in a tempo and an octave of their own for each row."""
    beat = between(0.2, 0.8, (batch, 1), generator) * RATE
    place = torch.arange(samples, device=generator.device) / beat
    chord = place.long()
    since = place.frac() * beat / RATE
    steps = between(0, 13, (batch, int(chord.max()) + 1), generator).floor()
    octave = between(110, 330, (batch, 1), generator)
    sound = torch.zeros(batch, samples, device=generator.device)
    for interval in (0, 4, 7):
        phase = tau * since * octave * 2 ** ((steps + interval) / 12).gather(1, chord)
        sound += sum(torch.sin(overtone * phase) / overtone for overtone in (1, 2, 3))
    fading = between(0.5, 6, (batch, 1), generator)
    return level(sound * torch.exp(-fading * since) * (since / 0.01).clamp(max=1))


def crowd(speech: Tensor, generator: Generator) -> Tensor:
    """Each row [n] of speech from twelve mouths at once, each at another place of it: nobody can be understood."""
    batch, samples = speech.shape
    starts = between(0, samples, (batch, 12), generator).long().to(speech.device)
    mouths = torch.zeros_like(speech).scatter_(1, starts.clamp(max=samples - 1), 1.0)
    return level(torch.fft.irfft(torch.fft.rfft(speech) * torch.fft.rfft(mouths), samples))


def level(sound: Tensor) -> Tensor:
    """Each row [n] at a mean power of 1; silence stays silent."""
    return sound / sound.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-6)
