"""The video transformer: trained by flow matching to make a face say what it hears."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from farm.model.parts import build
from farm.model.speakers import region_attention
from farm.presets import MINIATURE
from miniature.lessons import BatchBuilder, TrainingBatch, concatenate
from miniature.training import Losses, Run, generator, train_model

TRAINING_S = 540
PEAK_LR = 1e-3

BATCH = 64
"""Clips in a step.

A step is about three thousand kernels for any number of clips, so a smaller one waits for the CPU.
"""

SHIFT = 5.0
"""Times are drawn near the noise, where faces and lips are decided; four steps see none below 0.7.
"""

AUDIO_DROPOUT = 0.1
"""The share of clips without audio, for guidance."""

REGION_LOSS_WEIGHT = 0.1


@dataclass(frozen=True)
class ClipKind:
    """Clips of one size and number of speakers."""

    height: int
    width: int
    speakers: int
    batches: int
    """The number of batches that are built, and so how often they are chosen."""


KINDS = (
    ClipKind(128, 128, 1, 34),
    ClipKind(96, 176, 1, 8),
    ClipKind(112, 144, 1, 8),
    ClipKind(144, 112, 1, 8),
    ClipKind(176, 96, 1, 8),
    ClipKind(96, 176, 2, 21),
    ClipKind(112, 144, 2, 12),
    ClipKind(128, 128, 2, 5),
    ClipKind(192, 192, 1, 3),
)


def train(
    run: Run,
    builder: BatchBuilder,
    prompts: Tensor,
    training_s: float = TRAINING_S,
    scale: float = 1.0,
) -> Any:
    """The transformer. `prompts` are text features [P, text_len, text_dim].

    Every clip has a random one.
    """
    pools = _build_pools(run, builder, scale)
    torch.manual_seed(0)
    model = _zero_init(build("transformer", MINIATURE.parts["transformer"]))
    region_loss = _RegionLoss(model)

    def compute_losses(model: Any, step: int, _: float) -> Losses:
        rng = generator(run, step, 4)
        chosen = random.Random(step)
        kind = chosen.choices(KINDS, [each.batches for each in KINDS])[0]
        pool = pools[kind]
        items = torch.randint(len(pool.known), (BATCH,), generator=rng, device=rng.device)
        batch = pool.select(items)
        text = prompts[torch.randint(len(prompts), (BATCH,), generator=rng, device=rng.device)]
        if kind.speakers == 2 and chosen.random() < AUDIO_DROPOUT:
            batch = batch.silenced()
        region_loss.start(batch)
        return _losses(model, batch, text, rng, region_loss)

    return train_model(
        run, "transformer", model, compute_losses, training_s=training_s, peak_lr=PEAK_LR
    )


def _build_pools(run: Run, builder: BatchBuilder, scale: float) -> dict[ClipKind, TrainingBatch]:
    """The training data of every kind, built once and used many times."""
    pools = {}
    for number, kind in enumerate(KINDS):
        size = (kind.height, kind.width)
        batches = []
        for index in range(max(2, round(scale * kind.batches))):
            rng = generator(run, 1000 * number + index, 3)
            batches.append(builder.build(rng, BATCH, kind.speakers, size))
        pools[kind] = concatenate(batches)
        run.log(stage="lessons", kind=str(kind), clips=len(pools[kind].known))
    return pools


def _zero_init(model: Any) -> Any:
    """Zeroes the last layer and the audio branches, which speeds up the start of training."""
    nn.init.zeros_(model.proj_out.weight)
    nn.init.zeros_(model.proj_out.bias)
    for block in model.blocks:
        nn.init.zeros_(block.attn_audio.to_out[0].weight)
    return model


def _losses(
    model: Any,
    batch: TrainingBatch,
    text: Tensor,
    rng: torch.Generator,
    region_loss: _RegionLoss,
) -> Losses:
    # 1. A random time and the noisy latents of that time
    latents = batch.latents.float()
    clips = len(latents)
    noise = torch.randn(latents.shape, generator=rng, device=rng.device)
    even = torch.rand(clips, generator=rng, device=rng.device)
    time = SHIFT * even / (1 + (SHIFT - 1) * even)
    x = torch.lerp(latents, noise, time.view(-1, 1, 1, 1, 1))

    # 2. The motion latents, which are known
    count = batch.motion.shape[2]
    index = torch.arange(count, device=time.device).view(1, 1, -1, 1, 1)
    is_known = index < batch.known.view(-1, 1, 1, 1, 1)
    x[:, :, :count] = torch.where(is_known, batch.motion.float(), x[:, :, :count])

    # 3. The prediction; one speaker's voice is dropped here, two speakers' for the whole batch
    dropout = AUDIO_DROPOUT if batch.rows.shape[1] == 1 else 0.0
    has_audio = torch.rand(clips, generator=rng, device=rng.device) >= dropout
    predicted = model(
        torch.cat([x, batch.condition.float()], dim=1),
        1000 * time,
        text=text,
        image=batch.image.float(),
        audio=batch.audio(has_audio),
        regions=batch.regions,
    )

    # 4. The losses; known latents are not predicted
    square = (predicted - (noise - latents)).square()
    weight = batch.weight.expand(-1, -1, latents.shape[2], -1, -1).clone()
    weight[:, :, :count] *= ~is_known
    flow = (square * weight).sum() / (weight.sum() * latents.shape[1])
    regions = region_loss.mean()
    return {
        "loss": flow + REGION_LOSS_WEIGHT * regions,
        "flow": flow,
        "regions": regions,
        "plain": square.mean(),
    }


class _RegionLoss:
    """The cross entropy of the model's attention to the speakers' regions with the true regions.

    The model takes the region of a pixel from an argmax of that attention, through which no
    gradient flows; this loss trains it.
    """

    def __init__(self, model: Any) -> None:
        self._regions: Tensor | None = None
        self._sum = torch.zeros(())
        self._blocks = len(model.blocks)
        for block in model.blocks:
            block.attn1.register_forward_hook(self._add)

    def start(self, batch: TrainingBatch) -> None:
        """Starts a pass with the regions of a batch; with one speaker there is no loss."""
        self._regions = batch.regions if batch.rows.shape[1] == 2 else None
        self._sum = batch.regions.new_zeros(())

    def mean(self) -> Tensor:
        """The mean over the pixels and blocks of one pass."""
        return self._sum / self._blocks

    def _add(self, _: object, __: object, output: tuple[Tensor, Tensor, Tensor]) -> None:
        if self._regions is None:
            return
        _answer, query, key = output
        tokens = self._regions.shape[2]
        share = region_attention(query, key[:, :tokens], self._regions).float()
        probability = share / share.sum(-1, keepdim=True).clamp(min=1e-6)
        frames = query.shape[1] // tokens
        target = self._regions.mT.repeat(1, frames, 1)
        correct = (probability * target).sum(-1) / target.sum(-1).clamp(min=1)
        self._sum = self._sum - torch.log(correct.clamp(min=1e-4)).mean()
