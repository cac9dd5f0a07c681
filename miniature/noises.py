"""Sounds beside a voice that move no mouth: coloured noise, mains hum, music and babble.

Each is float32 [B, n] at 16 kHz with a mean power of 1, on the generator's device.
"""

from __future__ import annotations

from math import tau

import torch
from torch import Generator, Tensor

RATE = 16_000


def uniform(low: float, high: float, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Float32 numbers, uniform from `low` to `high`."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def coloured_noise(batch: int, samples: int, generator: Generator) -> Tensor:
    """Noise between white and brown, a colour for each row."""
    white = torch.randn(batch, samples, generator=generator, device=generator.device)
    spectrum = torch.fft.rfft(white)
    frequency = torch.linspace(0, RATE / 2, spectrum.shape[1], device=generator.device)
    slope = uniform(0, 1, (batch, 1), generator)
    # Below 20 Hz the slope would be steepest, and nothing is heard.
    coloured = spectrum * frequency.clamp(min=20) ** -slope
    return normalise_power(torch.fft.irfft(coloured, samples))


def mains_hum(batch: int, samples: int, generator: Generator) -> Tensor:
    """50 or 60 Hz with overtones."""
    base = 50 + 10 * uniform(0, 1, (batch, 1), generator).round()
    strength = uniform(0, 1, (batch, 8), generator)
    phase = tau * base / RATE * torch.arange(samples, device=generator.device)
    tones = [strength[:, [overtone - 1]] * torch.sin(overtone * phase) for overtone in range(1, 9)]
    return normalise_power(torch.stack(tones).sum(0))


def music(batch: int, samples: int, generator: Generator) -> Tensor:
    """Chords of three notes that are struck and fade, with a tempo and an octave for each row."""
    beat = uniform(0.2, 0.8, (batch, 1), generator) * RATE
    beats = torch.arange(samples, device=generator.device) / beat
    chord = beats.long()
    since_s = beats.frac() * beat / RATE
    steps = uniform(0, 13, (batch, int(chord.max()) + 1), generator).floor()
    octave = uniform(110, 330, (batch, 1), generator)
    sound = torch.zeros(batch, samples, device=generator.device)
    for interval in (0, 4, 7):
        octaves = ((steps + interval) / 12).gather(1, chord)
        phase = tau * since_s * octave * 2**octaves
        sound += sum(torch.sin(overtone * phase) / overtone for overtone in (1, 2, 3))
    decay = uniform(0.5, 6, (batch, 1), generator)
    attack = (since_s / 0.01).clamp(max=1)
    return normalise_power(sound * torch.exp(-decay * since_s) * attack)


def babble(speech: Tensor, generator: Generator) -> Tensor:
    """Each row [n] of speech twelve times at once, from different offsets: not to be understood."""
    batch, samples = speech.shape
    starts = uniform(0, samples, (batch, 12), generator).long().to(speech.device)
    starts = starts.clamp(max=samples - 1)
    impulses = torch.zeros_like(speech).scatter_(1, starts, 1.0)
    spectrum = torch.fft.rfft(speech) * torch.fft.rfft(impulses)
    return normalise_power(torch.fft.irfft(spectrum, samples))


def normalise_power(sound: Tensor) -> Tensor:
    """Each row [n] at a mean power of 1; silence stays silent."""
    return sound / sound.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-6)
