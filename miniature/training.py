"""One training loop for everything here: AdamW, warm-up, cosine, averaged weights, a state on disk.

The random numbers of a step depend on its number alone, so a training that was stopped ends as if
it had not been.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Losses = Mapping[str, Tensor]
"""Named numbers of a step; the model descends `loss`, the others are for the log."""

LossFunction = Callable[[Any, int, float], Losses]
"""The losses of a model at a step, with the share of the training that has passed, 0..1."""

LOG_EVERY = 100
WARM_UP = 100
CLIP = 1.0
AVERAGE = 0.999

STATE_PARTS = ("model", "average", "optimiser")


class Stopped(Exception):
    """The time is up; the state of the training is on disk."""


@dataclass(frozen=True)
class Run:
    """The device, the folder and the deadline of all trainings."""

    home: Path
    device: torch.device
    deadline: float = math.inf
    """On `clock`."""
    clock: Callable[[], float] = time.monotonic

    def log(self, **facts: object) -> None:
        """Prints a line and appends it to the log."""
        rounded = {
            name: round(fact, 5) if isinstance(fact, float) else fact
            for name, fact in facts.items()
        }
        line = json.dumps(rounded)
        print(line, flush=True)
        with (self.home / "log.jsonl").open("a") as log:
            log.write(line + "\n")


def train_model(
    run: Run,
    name: str,
    model: nn.Module,
    compute_losses: LossFunction,
    *,
    seconds: float,
    peak: float,
) -> Any:
    """Trains `model` for that many seconds and returns the moving average of its weights.

    `peak` is the highest learning rate. Raises Stopped at the run's deadline.
    """
    state = _TrainingState(run, name, model.to(run.device).train(), seconds, peak)
    while state.passed < 1:
        if run.clock() > run.deadline:
            state.save()
            raise Stopped(f"{name}: {state.passed:.0%} are done; run the same command again")
        state.take_step(compute_losses)
    state.save()
    return state.average.eval().requires_grad_(False)


def generator(run: Run, step: int, stream: int = 0) -> torch.Generator:
    """The random numbers of one step; streams are independent of each other."""
    return torch.Generator(run.device).manual_seed(1_000_003 * stream + step)


class _TrainingState:
    """A model, its average, its optimiser and their progress."""

    def __init__(
        self,
        run: Run,
        name: str,
        model: nn.Module,
        budget_s: float,
        peak: float,
    ) -> None:
        self.run = run
        self.name = name
        self.model = model
        self.budget_s = budget_s
        self.peak = peak
        self.average = copy.deepcopy(model)
        self.optimiser = torch.optim.AdamW(
            model.parameters(),
            lr=peak,
            betas=(0.9, 0.98),
            weight_decay=0.01,
            fused=run.device.type == "cuda",
        )
        self.path = run.home / f"{name}.state.pt"
        self.step = 0
        self.seconds = 0.0
        if self.path.exists():
            self._load()

    @property
    def passed(self) -> float:
        """The share of the training that is over; a step may take it a little beyond 1."""
        return self.seconds / self.budget_s

    def take_step(self, compute_losses: LossFunction) -> None:
        """One step of the optimiser."""
        began = self.run.clock()
        device = self.run.device.type
        for group in self.optimiser.param_groups:
            group["lr"] = self.peak * self._learning_rate_share()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            losses = compute_losses(self.model, self.step, self.passed)
        losses["loss"].backward()
        gradient = nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self._update_average()
        self.step += 1
        if self.step % LOG_EVERY == 0:
            self.run.log(
                stage=self.name,
                step=self.step,
                **{name: each.item() for name, each in losses.items()},
                gradient=gradient.item(),
                seconds=round(self.seconds, 1),
            )
        gradient.item()  # waits for the device, so that the clock is right
        self.seconds += self.run.clock() - began

    def save(self) -> None:
        parts = {name: getattr(self, name).state_dict() for name in STATE_PARTS}
        torch.save({**parts, "step": self.step, "seconds": self.seconds}, self.path)

    def _load(self) -> None:
        state = torch.load(self.path, map_location=self.run.device, weights_only=True)
        for name in STATE_PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.step = state["step"]
        self.seconds = state["seconds"]

    def _learning_rate_share(self) -> float:
        """The share of the peak: a linear rise, then half a cosine down."""
        rising = (self.step + 1) / WARM_UP
        falling = 0.5 + 0.5 * math.cos(math.pi * min(1.0, self.passed))
        return min(rising, falling)

    def _update_average(self) -> None:
        # At first the average follows quickly, so that it forgets the random start.
        keep = min(AVERAGE, (1 + self.step) / (10 + self.step))
        averages = [parameter.data for parameter in self.average.parameters()]
        current = [parameter.data for parameter in self.model.parameters()]
        torch._foreach_lerp_(averages, current, 1 - keep)
