"""The miniature's ears: wav2vec2, trained to tell what lips do and what was said, however long a recording is.

    python -m miniature.audio_encoder VOICES.safetensors OUT [SECONDS]

leaves the folder of the part in 16 bits, and tells how well it hears voices that it was not trained on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from math import cos, pi
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import Generator, Tensor, nn

from farm.model.audio import AudioEncoder
from farm.model.parts import built
from farm.model.presets import MINIATURE
from miniature.noises import RATE
from miniature.voices import WINDOW, Voices, opening, width, windows

LENGTHS_S = (2, 3, 5, 8, 13, 20, 30)
"""Of the recordings that it hears while it learns: later it will hear a whole one at once, of any length."""

BATCH_S = {"cpu": 20, "cuda": 240}
"""Of all recordings of a step together, where they are shorter: a GPU is idle over less."""

BANDS = 24
"""Of the speech's spectrum."""

WEIGHTS = (10.0, 2.0, *[0.5 / BANDS] * BANDS)
"""Of opening, width and each band in the loss: their variances are about 0.08, 0.2 and 1.7."""

LEARNING_RATE, WARM_UP = 2e-3, 20
"""The highest rate, and the steps in which it is reached."""


class Heads(nn.Module):
    """What each layer of [B, frames, layers, dim] tells of the speech, [B, frames, layers, 2 + BANDS], as `truth`."""

    def __init__(self, layers: int, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, 2 + BANDS) for _ in range(layers))

    def forward(self, embedded: Tensor) -> Tensor:
        return torch.stack([head(row) for head, row in zip(self.layers, embedded.unbind(2), strict=True)], dim=2)


def embeddings(model: nn.Module, heard: Tensor) -> Tensor:
    """What `AudioEncoder.embed` makes of each recording [B, n]: [B, frames, layers, dim], with gradients.

    The model is one that has been given to an AudioEncoder, which made it answer 25 times a second.
    """
    variance, mean = torch.var_mean(heard, dim=1, correction=0, keepdim=True)
    hidden = model((heard - mean) / (variance + 1e-7).sqrt(), output_hidden_states=True).hidden_states
    return torch.stack(hidden[1:], dim=2)


def train(
    voices: Voices, device: str | torch.device, seconds_budget: float, log: Callable[[str], object], *, seed: int = 0
) -> Any:
    """A Wav2Vec2Model that has learned for so long, float32, on the device that the voices are on."""
    torch.manual_seed(seed)
    kind = torch.device(device).type
    # An AudioEncoder has no dropout: the model never hears the same twice and is too small to learn by heart.
    model = AudioEncoder(built("audio_encoder", MINIATURE.parts["audio_encoder"]).to(device)).model
    heads = Heads(model.config.num_hidden_layers, model.config.hidden_size).to(device)
    parameters, weights = [*model.parameters(), *heads.parameters()], torch.tensor(WEIGHTS, device=device)
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.98))
    dice, generator = Generator().manual_seed(seed), Generator(device).manual_seed(seed)
    begun, step = monotonic(), 0
    while (spent := (monotonic() - begun) / seconds_budget) < 1:
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * min(1, (step + 1) / WARM_UP) * (1 + cos(pi * spent)) / 2
        seconds = LENGTHS_S[torch.randint(len(LENGTHS_S), (), generator=dice)]
        heard, spoken = voices.recordings(max(1, BATCH_S[kind] // seconds), seconds, generator)
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
            told = heads(embeddings(model, heard))
        loss = (weights * (told.float() - truth(spoken)[:, :, None]).square()).sum(dim=3).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1)
        optimiser.step()
        step += 1
        if step % 50 == 0:
            log(f"audio encoder: step {step}, {spent:.0%} of {seconds_budget:g} s, loss {loss.item():.3f}")
    return model


def truth(spoken: Tensor) -> Tensor:
    """What there is to tell of clean speech [B, n]: opening, width and bands of each frame, [B, frames, 2 + BANDS].

    The bands are in tens of decibels beside the recording's mean, none lower than 30 below it.
    """
    power = torch.fft.rfft(windows(spoken)).abs().square() @ mel(spoken.device)
    relative = power / power.mean(dim=(1, 2), keepdim=True).clamp(min=1e-9)
    return torch.cat([opening(spoken)[..., None], width(spoken)[..., None], relative.clamp(min=1e-3).log10()], dim=2)


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
            found = torch.stack([_correlation(_features(model, heard) @ reading, said) for heard, said in spoken])
            lines.append(f"{kind} {found.mean():.3f}, worst {found.min():.3f}")
        yield f"opening of held-out voices, {items} recordings of {seconds} s: {'; '.join(lines)}"


def _reading(model: nn.Module, voices: Voices) -> Tensor:
    """The linear map [features, 1] from embeddings to the opening that errs least over trained voices."""
    talks = [talk for noisy in (False, True) for talk in islice(_talks(voices, 10, noisy), 12)]
    features = torch.cat([_features(model, heard) for heard, _ in talks])
    openings = torch.cat([said for _, said in talks])[:, None].double()
    # Ridge: layers repeat one another, and an exact solution would balance huge numbers.
    square = features.T @ features + 1e-3 * len(features) * torch.eye(features.shape[1], device=features.device)
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


def main(voices: str, folder: str, seconds: str = "90") -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trained, held_out = Voices(Path(voices), device), Voices(Path(voices), device, held_out=True)
    model = train(trained, device, float(seconds), print)
    for line in report(model, trained, held_out):
        print(line)
    model.half().save_pretrained(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
