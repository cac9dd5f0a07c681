"""One training loop for everything here: AdamW, warm-up, cosine, averaged weights, a state on disk.

The random numbers of a step depend on its number alone, so a training that was stopped goes on with
the draws that it would have made. Its weights still end different: the learning rate depends on the
time that steps take, and what was compiled is compiled again.
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
"""The losses of a model at a step, with the progress of the training, 0..1."""

LOG_EVERY = 100
WARMUP_STEPS = 100
MAX_GRAD_NORM = 1.0
EMA_DECAY = 0.999

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
    training_s: float,
    peak_lr: float,
) -> Any:
    """Trains `model` for `training_s` and returns the moving average of its weights.

    `peak_lr` is the highest learning rate. Raises Stopped at the run's deadline.
    """
    state = _TrainingState(run, name, model.to(run.device).train(), training_s, peak_lr)
    while state.progress < 1:
        if run.clock() > run.deadline:
            state.save()
            raise Stopped(f"{name}: {state.progress:.0%} are done; run the same command again")
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
        training_s: float,
        peak_lr: float,
    ) -> None:
        self.run = run
        self.name = name
        self.model = model
        self.training_s = training_s
        self.peak_lr = peak_lr
        self.average = copy.deepcopy(model)
        self.optimiser = torch.optim.AdamW(
            model.parameters(),
            lr=peak_lr,
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
    def progress(self) -> float:
        """The share of the training that is over; a step may take it a little beyond 1."""
        return self.seconds / self.training_s

    def take_step(self, compute_losses: LossFunction) -> None:
        """One step of the optimiser."""
        began = self.run.clock()
        device = self.run.device.type
        for group in self.optimiser.param_groups:
            group["lr"] = self.peak_lr * self._learning_rate_share()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            losses = compute_losses(self.model, self.step, self.progress)
        losses["loss"].backward()
        gradient = nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRAD_NORM)
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
        temporary = self.path.with_suffix(".tmp")  # an interrupt leaves the last state as it was
        torch.save({**parts, "step": self.step, "seconds": self.seconds}, temporary)
        temporary.replace(self.path)

    def _load(self) -> None:
        state = torch.load(self.path, map_location=self.run.device, weights_only=True)
        for name in STATE_PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.step = state["step"]
        self.seconds = state["seconds"]

    def _learning_rate_share(self) -> float:
        """The share of the peak: a linear rise, then half a cosine down."""
        rising = (self.step + 1) / WARMUP_STEPS
        falling = 0.5 + 0.5 * math.cos(math.pi * min(1.0, self.progress))
        return min(rising, falling)

    def _update_average(self) -> None:
        # At first the average follows quickly, so that it forgets the random start.
        decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
        averages = [parameter.data for parameter in self.average.parameters()]
        current = [parameter.data for parameter in self.model.parameters()]
        torch._foreach_lerp_(averages, current, 1 - decay)
