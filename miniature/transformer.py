"""The video transformer: trained by flow matching to make a face say what it hears."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from farm.model.parts import build
from farm.model.presets import MINIATURE
from farm.model.speakers import region_attention
from miniature.lessons import Lessons, Teacher, joined
from miniature.training import Losses, Run, generator, trained

SECONDS = 540
PEAK = 1e-3
BATCH = 64
"""Clips in a step, which waits for the CPU with fewer: it is some three thousand kernels, however large."""

SHIFT = 5.0
"""Times are drawn near the noise, where a face and its lips are decided; four steps see none below 0.7."""

DEAF = 0.1
"""How often nothing is heard, for guidance."""

GAZE = 0.1
"""How much it counts that each speaker's pixels look at that speaker."""


@dataclass(frozen=True)
class Kind:
    """Clips of one size and number of speakers: how many batches of lessons, and so how often they come."""

    height: int
    width: int
    speakers: int
    batches: int


KINDS = (
    Kind(128, 128, 1, 34),
    Kind(96, 176, 1, 8),
    Kind(112, 144, 1, 8),
    Kind(144, 112, 1, 8),
    Kind(176, 96, 1, 8),
    Kind(96, 176, 2, 21),
    Kind(112, 144, 2, 12),
    Kind(128, 128, 2, 5),
    Kind(192, 192, 1, 3),
)


def train(
    run: Run,
    teacher: Teacher,
    prompts: Tensor,
    seconds: float = SECONDS,
    scale: float = 1.0,
) -> Any:
    """The transformer. `prompts` are text features [P, text_len, text_dim], of which every clip is given any."""
    pools = _pools(run, teacher, scale)
    torch.manual_seed(0)
    model = _begun(build("transformer", MINIATURE.parts["transformer"]))
    gaze = _Gaze(model)

    def lesson(model: Any, step: int, _: float) -> Losses:
        dice = generator(run, step, 4)
        chosen = random.Random(step)
        kind = chosen.choices(KINDS, [each.batches for each in KINDS])[0]
        pool = pools[kind]
        lessons = pool.some(
            torch.randint(len(pool.known), (BATCH,), generator=dice, device=dice.device)
        )
        text = prompts[torch.randint(len(prompts), (BATCH,), generator=dice, device=dice.device)]
        if kind.speakers == 2 and chosen.random() < DEAF:
            lessons = lessons.unheard()
        gaze.watch(lessons)
        return _losses(model, lessons, text, dice, gaze)

    return trained(run, "transformer", model, lesson, seconds=seconds, peak=PEAK)


def _pools(run: Run, teacher: Teacher, scale: float) -> dict[Kind, Lessons]:
    """Lessons of every kind, made once and gone through many times."""
    pools = {}
    for number, kind in enumerate(KINDS):
        made = [
            teacher.lessons(
                generator(run, 1000 * number + batch, 3),
                BATCH,
                kind.speakers,
                (kind.height, kind.width),
            )
            for batch in range(max(2, round(scale * kind.batches)))
        ]
        pools[kind] = joined(made)
        run.log(stage="lessons", kind=str(kind), clips=len(pools[kind].known))
    return pools


def _begun(model: Any) -> Any:
    """A start from which training is quick: what is gated and what is last begins at nothing."""
    nn.init.zeros_(model.proj_out.weight)
    nn.init.zeros_(model.proj_out.bias)
    for block in model.blocks:
        nn.init.zeros_(block.attn_audio.to_out[0].weight)
    return model


def _losses(
    model: Any, lessons: Lessons, text: Tensor, dice: torch.Generator, gaze: _Gaze
) -> Losses:
    latents = lessons.latents.float()
    noise = torch.randn(latents.shape, generator=dice, device=dice.device)
    even = torch.rand(len(latents), generator=dice, device=dice.device)
    time = SHIFT * even / (1 + (SHIFT - 1) * even)
    x = torch.lerp(latents, noise, time.view(-1, 1, 1, 1, 1))
    count = lessons.motion.shape[2]
    fixed = torch.arange(count, device=time.device).view(1, 1, -1, 1, 1) < lessons.known.view(
        -1, 1, 1, 1, 1
    )
    x[:, :, :count] = torch.where(fixed, lessons.motion.float(), x[:, :, :count])
    heard = torch.rand(len(latents), generator=dice, device=dice.device) >= DEAF * (
        lessons.rows.shape[1] == 1
    )
    predicted = model(
        torch.cat([x, lessons.condition.float()], dim=1),
        1000 * time,
        text=text,
        image=lessons.image.float(),
        audio=lessons.audio(heard),
        regions=lessons.regions,
    )
    square = (predicted - (noise - latents)).square()
    free = lessons.weight.expand(-1, -1, latents.shape[2], -1, -1).clone()
    free[:, :, :count] *= ~fixed
    flow = (square * free).sum() / (free.sum() * latents.shape[1])
    seen = gaze.loss()
    return {
        "loss": flow + GAZE * seen,
        "flow": flow,
        "gaze": seen,
        "plain": square.mean(),
    }


class _Gaze:
    """Watches where a model's pixels look in the first frame, which tells it whose voice they hear.

    That choice is an argmax, through which nothing is learnt; here it is taught.
    """

    def __init__(self, model: Any) -> None:
        self._regions: Tensor | None = None
        self._missed = torch.zeros(())
        self._blocks = len(model.blocks)
        for block in model.blocks:
            block.attn1.register_forward_hook(self._note)

    def watch(self, lessons: Lessons) -> None:
        """From now on, with the lessons' regions as what is right; one speaker needs none."""
        self._regions = lessons.regions if lessons.rows.shape[1] == 2 else None
        self._missed = lessons.regions.new_zeros(())

    def loss(self) -> Tensor:
        """The mean cross entropy of each pixel's looks with its own region, of one pass."""
        return self._missed / self._blocks

    def _note(self, _: object, __: object, out: tuple[Tensor, Tensor, Tensor]) -> None:
        if self._regions is None:
            return
        _answer, query, key = out
        tokens = self._regions.shape[2]
        share = region_attention(query, key[:, :tokens], self._regions).float()
        odds = share / share.sum(-1, keepdim=True).clamp(min=1e-6)
        own = self._regions.mT.repeat(1, query.shape[1] // tokens, 1)
        right = (odds * own).sum(-1) / own.sum(-1).clamp(min=1)
        self._missed = self._missed - torch.log(right.clamp(min=1e-4)).mean()
