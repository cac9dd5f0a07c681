"""The miniature's ears: wav2vec2, trained to tell what lips do and what was said, however long a recording is.

    python -m miniature.audio_encoder VOICES.safetensors OUT [SECONDS]

takes a minute and a half on two cores or half a minute on a GPU, and leaves the folder of the part in 16 bits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
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
"""Of all recordings of a step together: a GPU is idle over less."""

BANDS = 24
"""Of the speech's spectrum, from 60 to 7,600 Hz."""

LEARNING_RATE = 2e-3
WEIGHTS = (10.0, 2.0, *[0.5 / BANDS] * BANDS)
"""Of opening, width and each band in the loss: their variances are about 0.08, 0.2 and 1.7."""


class Heads(nn.Module):
    """What each layer [B, frames, layers, dim] tells of the speech: [B, frames, layers, 2 + BANDS], as in `truth`."""

    def __init__(self, layers: int, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, 2 + BANDS) for _ in range(layers))

    def forward(self, embedded: Tensor) -> Tensor:
        return torch.stack([head(row) for head, row in zip(self.layers, embedded.unbind(2), strict=True)], dim=2)


def embeddings(model: nn.Module, heard: Tensor) -> Tensor:
    """What `farm.model.audio.AudioEncoder` makes of each recording of [B, n]: [B, frames, layers, dim].

    The model must have been given to an AudioEncoder, which brings it to 25 frames a second.
    """
    variance, mean = torch.var_mean(heard, dim=1, correction=0, keepdim=True)
    hidden = model((heard - mean) / (variance + 1e-7).sqrt(), output_hidden_states=True).hidden_states
    return torch.stack(hidden[1:], dim=2)


def train(
    voices: Voices, device: str | torch.device, seconds_budget: float, log: Callable[[str], object], *, seed: int = 0
) -> Any:
    """A Wav2Vec2Model that has learned for so long, in float32 on `device`, ready to embed."""
    torch.manual_seed(seed)
    kind = torch.device(device).type
    # Without dropout: it never hears the same twice, and is too small to learn anything by heart.
    model = AudioEncoder(built("audio_encoder", MINIATURE.parts["audio_encoder"]).to(device)).model
    heads = Heads(model.config.num_hidden_layers, model.config.hidden_size).to(device)
    parameters = [*model.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.98))
    dice, generator = Generator().manual_seed(seed), Generator(device).manual_seed(seed)
    weights = torch.tensor(WEIGHTS, device=device)
    begun, step = monotonic(), 0
    while (spent := (monotonic() - begun) / seconds_budget) < 1:
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * min(1, (step + 1) / 20) * (1 + cos(pi * spent)) / 2
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
        if step % 10 == 0:
            log(f"audio encoder: step {step}, {spent:.0%} of {seconds_budget:g} s, loss {loss.item():.3f}")
    log(f"audio encoder: {step} steps; {report(model, heads, Voices(Path('/tmp/miniature/voices.safetensors'), held_out=True))}")
    return model


def truth(spoken: Tensor) -> Tensor:
    """What there is to tell of clean speech [B, n]: opening, width and spectrum of each frame, [B, frames, 2 + BANDS].

    The spectrum is in tens of decibels beside the recording's mean, none lower than 30 below it.
    """
    power = torch.fft.rfft(windows(spoken)).abs().square() @ _mel(spoken.device)
    relative = power / power.mean(dim=(1, 2), keepdim=True).clamp(min=1e-9)
    return torch.cat([opening(spoken)[..., None], width(spoken)[..., None], relative.clamp(min=1e-3).log10()], dim=2)


def _mel(device: torch.device) -> Tensor:
    """[frequencies, BANDS]: triangles that stand evenly in mel (2595 log10(1 + f / 700)), each up to its neighbours."""
    mel = torch.linspace(87, 2787, BANDS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    frequency = torch.linspace(0, RATE / 2, WINDOW // 2 + 1)[:, None]
    rising = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).to(device)


@torch.inference_mode()
def report(model: nn.Module, heads: Heads, voices: Voices, *, items: int = 12) -> dict[str, float]:
    """How well the last layer knows the opening: the mean correlation over recordings of each length.

    In clean speech, and heard through noise.
    """
    generator = Generator(voices.device).manual_seed(1)
    found = {}
    for seconds in (3, 10, 30, 60):
        for kind in ("clean", "noisy"):
            heard, spoken = voices.recordings(items * (1 if kind == "clean" else 3), seconds, generator)
            talks = opening(spoken).amax(dim=1) > 0
            if kind == "noisy":
                talks &= (heard != spoken).any(dim=1)
            rows = talks.nonzero()[:items, 0].tolist()
            each = [
                _correlation(
                    heads(embeddings(model, (spoken if kind == "clean" else heard)[[row]]))[0, :, -1, 0],
                    opening(spoken[[row]])[0],
                )
                for row in rows
            ]
            found[f"{seconds} s {kind}"] = sum(each) / len(each)
            found[f"{seconds} s {kind} worst"] = min(each)
    return found


def _correlation(one: Tensor, other: Tensor) -> float:
    return torch.corrcoef(torch.stack([one, other]))[0, 1].item()


if __name__ == "__main__":
    path, folder, *seconds = sys.argv[1:]
    train(Voices(Path(path)), "cpu", float(seconds[0]) if seconds else 90, print).half().save_pretrained(folder)
