"""The miniature's audio encoder: wav2vec2, trained to predict lips and spectrum from speech.

It takes recordings of any length.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from statistics import fmean
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn

from farm.model.audio import AudioEncoder
from farm.model.parts import build
from farm.presets import MINIATURE
from miniature.measure import correlation
from miniature.noises import RATE
from miniature.training import Losses, Run, generator, train_model
from miniature.voices import WINDOW, Voices, opening, spread, windows

LENGTHS_S = (2, 3, 5, 8, 13, 20, 30)
"""Of the recordings in training: at work it encodes whole recordings of any length."""

BATCH_S = {"cpu": 20, "cuda": 240}
"""Of all recordings of a step together, where they are shorter; a GPU is idle with less."""

BANDS = 24
"""Of the speech's spectrum."""

WEIGHTS = (10.0, 2.0, *[0.5 / BANDS] * BANDS)
"""Of opening, spread and each band in the loss: their variances are about 0.08, 0.2 and 1.7."""

TRAINING_S = 30
PEAK_LR = 2e-3


class ProbedEncoder(nn.Module):
    """Predicts `targets` from each layer: [B, n] in, [B, frames, layers, 2 + BANDS] out."""

    def __init__(self) -> None:
        super().__init__()
        # An AudioEncoder has no dropout: no recording is seen twice, and the model is too small to
        # memorise any.
        model = build("audio_encoder", MINIATURE.parts["audio_encoder"])
        encoder = AudioEncoder(model, do_normalize=True)
        self.model = encoder.model
        config = self.model.config
        self.heads = nn.ModuleList(
            nn.Linear(config.hidden_size, 2 + BANDS) for _ in range(config.num_hidden_layers)
        )

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, recordings: Tensor) -> Tensor:
        layers = embeddings(self.model, recordings).unbind(2)
        readings = [head(layer) for head, layer in zip(self.heads, layers, strict=True)]
        return torch.stack(readings, dim=2)


def embeddings(model: nn.Module, recordings: Tensor) -> Tensor:
    """`AudioEncoder.embed` of each recording [B, n]: [B, frames, layers, dim], with gradients.

    The model must have been given to an AudioEncoder, which resamples its features to 25 a second.
    """
    variance, mean = torch.var_mean(recordings, dim=1, correction=0, keepdim=True)
    normalised = (recordings - mean) / (variance + 1e-7).sqrt()
    hidden = model(normalised, output_hidden_states=True).hidden_states
    return torch.stack(hidden[1:], dim=2)


def train(run: Run, voices: Voices, training_s: float = TRAINING_S) -> Any:
    """A trained Wav2Vec2Model, float32."""
    torch.manual_seed(0)
    weights = torch.tensor(WEIGHTS, device=run.device)

    def compute_losses(model: nn.Module, step: int, _: float) -> Losses:
        length_s = random.Random(step).choice(LENGTHS_S)
        batch = max(1, BATCH_S[run.device.type] // length_s)
        noisy, clean = voices.recordings(batch, length_s, generator(run, step, 5))
        errors = model(noisy).float() - targets(clean)[:, :, None]
        return {"loss": (weights * errors.square()).sum(dim=3).mean()}

    probed = train_model(
        run,
        "audio_encoder",
        ProbedEncoder(),
        compute_losses,
        training_s=training_s,
        peak_lr=PEAK_LR,
    )
    return probed.model


def targets(clean: Tensor) -> Tensor:
    """Opening, spread and bands of each frame of clean speech [B, n]: [B, frames, 2 + BANDS].

    The bands are in tens of decibels relative to the recording's mean, and at least -3.
    """
    power = torch.fft.rfft(windows(clean)).abs().square() @ mel_filters(clean.device)
    relative = power / power.mean(dim=(1, 2), keepdim=True).clamp(min=1e-9)
    bands = relative.clamp(min=1e-3).log10()
    return torch.cat([opening(clean)[..., None], spread(clean)[..., None], bands], dim=2)


def mel_filters(device: torch.device) -> Tensor:
    """[frequencies of a window, BANDS]: triangles that overlap by half and are even in mel.

    From 56 to 7,600 Hz; mel is 2595 log10(1 + f / 700).
    """
    edges = 700 * (10 ** (torch.linspace(87, 2787, BANDS + 2) / 2595) - 1)
    frequency = torch.linspace(0, RATE / 2, WINDOW // 2 + 1)[:, None]
    rising = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).to(device)


# ---- evaluation


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    trained: Voices,
    held_out: Voices,
    *,
    lengths_s: Sequence[float] = (3, 10, 30, 60),
    items: int = 12,
) -> Iterator[str]:
    """For each length, a line about the openings read from the embeddings of held-out voices.

    They are read by a linear map, fitted on the trained voices, and correlated with the true
    openings.
    """
    linear_map = _fit_linear_map(model, trained)
    for seconds in lengths_s:
        lines = []
        for kind, with_noise in (("clean", False), ("noisy", True)):
            examples = islice(_speech_examples(held_out, seconds, with_noise), items)
            correlations = [
                correlation((_features(model, recording) @ linear_map)[:, 0], openings)
                for recording, openings in examples
            ]
            lines.append(f"{kind} {fmean(correlations):.3f}, worst {min(correlations):.3f}")
        yield f"opening of held-out voices, {items} recordings of {seconds} s: {'; '.join(lines)}"


def _fit_linear_map(model: nn.Module, voices: Voices) -> Tensor:
    """The linear map [features, 1] from embeddings to the opening with the least squared error."""
    examples = [
        example
        for with_noise in (False, True)
        for example in islice(_speech_examples(voices, 10, with_noise), 12)
    ]
    features = torch.cat([_features(model, recording) for recording, _ in examples])
    openings = torch.cat([openings for _, openings in examples])[:, None].double()
    # Ridge: layers repeat one another, and an exact solution would balance huge numbers.
    ridge = 1e-3 * len(features) * torch.eye(features.shape[1], device=features.device)
    return torch.linalg.solve(features.T @ features + ridge, features.T @ openings)


def _speech_examples(
    voices: Voices, seconds: float, with_noise: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Recordings [1, n] with speech and the true openings [frames]; all have noise, or none has."""
    rng = Generator(voices.device).manual_seed(1)
    while True:
        noisy, clean = voices.recordings(1, seconds, rng)
        openings = opening(clean)[0]
        if not openings.any():
            continue
        if not with_noise:
            yield clean, openings
        elif not torch.equal(noisy, clean):
            yield noisy, openings


def _features(model: nn.Module, recording: Tensor) -> Tensor:
    """One recording's embedding beside a one, [frames, layers * dim + 1], float64."""
    embedded = embeddings(model, recording)[0].flatten(1).double()
    return torch.cat([embedded, torch.ones_like(embedded[:, :1])], dim=1)
