"""The miniature's ears: wav2vec2, trained to tell what lips do and what was said, however long a recording is."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn

from farm.model.audio import AudioEncoder
from farm.model.parts import build
from farm.model.presets import MINIATURE
from miniature.noises import RATE
from miniature.training import Losses, Run, generator, trained
from miniature.voices import WINDOW, Voices, opening, width, windows

LENGTHS_S = (2, 3, 5, 8, 13, 20, 30)
"""Of the recordings that it hears while it learns: later it will hear a whole one at once, of any length."""

BATCH_S = {"cpu": 20, "cuda": 240}
"""Of all recordings of a step together, where they are shorter: a GPU is idle over less."""

BANDS = 24
"""Of the speech's spectrum."""

WEIGHTS = (10.0, 2.0, *[0.5 / BANDS] * BANDS)
"""Of opening, width and each band in the loss: their variances are about 0.08, 0.2 and 1.7."""

SECONDS = 30
PEAK = 2e-3


class Listener(nn.Module):
    """Recordings [B, n] to what each layer tells of them, [B, frames, layers, 2 + BANDS], as `truth`."""

    def __init__(self) -> None:
        super().__init__()
        # An AudioEncoder has no dropout: the model never hears the same twice and is too small to learn by heart.
        self.model = AudioEncoder(build("audio_encoder", MINIATURE.parts["audio_encoder"])).model
        size = self.model.config
        self.heads = nn.ModuleList(
            nn.Linear(size.hidden_size, 2 + BANDS) for _ in range(size.num_hidden_layers)
        )

    def train(self, mode: bool = True) -> Self:
        """Is always at work, never in training."""
        return super().train(False)

    def forward(self, heard: Tensor) -> Tensor:
        layers = embeddings(self.model, heard).unbind(2)
        return torch.stack(
            [head(layer) for head, layer in zip(self.heads, layers, strict=True)],
            dim=2,
        )


def embeddings(model: nn.Module, heard: Tensor) -> Tensor:
    """What `AudioEncoder.embed` makes of each recording [B, n]: [B, frames, layers, dim], with gradients.

    The model is one that has been given to an AudioEncoder, which made it answer 25 times a second.
    """
    variance, mean = torch.var_mean(heard, dim=1, correction=0, keepdim=True)
    hidden = model(
        (heard - mean) / (variance + 1e-7).sqrt(), output_hidden_states=True
    ).hidden_states
    return torch.stack(hidden[1:], dim=2)


def train(run: Run, voices: Voices, seconds: float = SECONDS) -> Any:
    """A Wav2Vec2Model that tells what was said, float32."""
    torch.manual_seed(0)
    weights = torch.tensor(WEIGHTS, device=run.device)

    def lesson(listener: nn.Module, step: int, _: float) -> Losses:
        length = random.Random(step).choice(LENGTHS_S)
        batch = max(1, BATCH_S[run.device.type] // length)
        heard, spoken = voices.recordings(batch, length, generator(run, step, 5))
        errors = listener(heard).float() - truth(spoken)[:, :, None]
        return {"loss": (weights * errors.square()).sum(dim=3).mean()}

    return trained(run, "audio_encoder", Listener(), lesson, seconds=seconds, peak=PEAK).model


def truth(spoken: Tensor) -> Tensor:
    """What there is to tell of clean speech [B, n]: opening, width and bands of each frame, [B, frames, 2 + BANDS].

    The bands are in tens of decibels beside the recording's mean, none lower than 30 below it.
    """
    power = torch.fft.rfft(windows(spoken)).abs().square() @ mel(spoken.device)
    relative = power / power.mean(dim=(1, 2), keepdim=True).clamp(min=1e-9)
    return torch.cat(
        [
            opening(spoken)[..., None],
            width(spoken)[..., None],
            relative.clamp(min=1e-3).log10(),
        ],
        dim=2,
    )


def mel(device: torch.device) -> Tensor:
    """[frequencies of a window, BANDS]: triangles, each from its neighbour below to the one above, even in mel.

    From 56 to 7,600 Hz; mel is 2595 log10(1 + f / 700).
    """
    edges = 700 * (10 ** (torch.linspace(87, 2787, BANDS + 2) / 2595) - 1)
    frequency = torch.linspace(0, RATE / 2, WINDOW // 2 + 1)[:, None]
    rising = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).to(device)


# ---- how well it hears


@torch.inference_mode()
def report(
    model: nn.Module,
    trained: Voices,
    held_out: Voices,
    *,
    lengths_s: Sequence[float] = (3, 10, 30, 60),
    items: int = 12,
) -> Iterator[str]:
    """For each length, a line about the opening that can be read from the embeddings of voices never trained on.

    It is read by a linear map, fitted on the trained voices, and correlated with the true opening.
    """
    reading = _reading(model, trained)
    for seconds in lengths_s:
        lines = []
        for kind, noisy in (("clean", False), ("noisy", True)):
            spoken = islice(_talks(held_out, seconds, noisy), items)
            found = torch.stack(
                [_correlation(_features(model, heard) @ reading, said) for heard, said in spoken]
            )
            lines.append(f"{kind} {found.mean():.3f}, worst {found.min():.3f}")
        yield f"opening of held-out voices, {items} recordings of {seconds} s: {'; '.join(lines)}"


def _reading(model: nn.Module, voices: Voices) -> Tensor:
    """The linear map [features, 1] from embeddings to the opening that errs least over trained voices."""
    talks = [talk for noisy in (False, True) for talk in islice(_talks(voices, 10, noisy), 12)]
    features = torch.cat([_features(model, heard) for heard, _ in talks])
    openings = torch.cat([said for _, said in talks])[:, None].double()
    # Ridge: layers repeat one another, and an exact solution would balance huge numbers.
    square = features.T @ features + 1e-3 * len(features) * torch.eye(
        features.shape[1], device=features.device
    )
    return torch.linalg.solve(square, features.T @ openings)


def _talks(voices: Voices, seconds: float, noisy: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Recordings [1, n] in which somebody speaks, and the true openings [frames]: all through noise, or none."""
    generator = Generator(voices.device).manual_seed(1)
    while True:
        heard, spoken = voices.recordings(1, seconds, generator)
        said = opening(spoken)[0]
        if said.any() and (not noisy or not torch.equal(heard, spoken)):
            yield (heard if noisy else spoken), said


def _features(model: nn.Module, heard: Tensor) -> Tensor:
    """One recording's embedding beside a one, [frames, layers * dim + 1], float64."""
    embedded = embeddings(model, heard)[0].flatten(1).double()
    return torch.cat([embedded, torch.ones_like(embedded[:, :1])], dim=1)


def _correlation(read: Tensor, said: Tensor) -> Tensor:
    return torch.corrcoef(torch.stack([read[:, 0], said.double()]))[0, 1]
