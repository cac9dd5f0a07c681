"""One way to train everything here: AdamW, a warm-up, a cosine, a moving average of the weights, and a state on disk.

A step's random numbers depend on its number alone, so a training that was stopped goes on as if it had not been.
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

Lesson = Callable[[Any, int, float], Losses]
"""The losses of a model at a step, of whose training so much has passed, 0..1."""

LOG_EVERY = 100
WARM_UP = 100
CLIP = 1.0
AVERAGE = 0.999


class Stopped(Exception):
    """The time is up; what was reached lies on disk."""


@dataclass(frozen=True)
class Run:
    """Where trainings happen: on which device, in which folder, and until which moment."""

    home: Path
    device: torch.device
    deadline: float = math.inf
    """As `clock` counts."""
    clock: Callable[[], float] = time.monotonic

    def log(self, **facts: object) -> None:
        """A line on the screen and in the log."""
        line = json.dumps(
            {name: round(f, 5) if isinstance(f, float) else f for name, f in facts.items()}
        )
        print(line, flush=True)
        with (self.home / "log.jsonl").open("a") as log:
            log.write(line + "\n")


def trained(
    run: Run,
    name: str,
    model: nn.Module,
    lesson: Lesson,
    *,
    seconds: float,
    peak: float,
) -> Any:
    """The moving average of `model` after so many seconds of training. Raises Stopped at the benchmarks's deadline."""
    state = _State(run, name, model.to(run.device).train(), seconds, peak)
    while state.passed < 1:
        if run.clock() > run.deadline:
            state.save()
            raise Stopped(f"{name}: {state.passed:.0%} are done; run the same command again")
        state.descend(lesson)
    state.save()
    return state.average.eval().requires_grad_(False)


def generator(run: Run, step: int, stream: int = 0) -> torch.Generator:
    """The random numbers of one step; streams are independent of each other."""
    return torch.Generator(run.device).manual_seed(1_000_003 * stream + step)


class _State:
    """A model, its average, its optimiser and where they are."""

    def __init__(self, run: Run, name: str, model: nn.Module, budget: float, peak: float) -> None:
        self.bench = run
        self.name = name
        self.model = model
        self.budget = budget
        self.peak = peak
        self.average = copy.deepcopy(model)
        fused = run.device.type == "cuda"
        self.optimiser = torch.optim.AdamW(
            model.parameters(),
            lr=peak,
            betas=(0.9, 0.98),
            weight_decay=0.01,
            fused=fused,
        )
        self.path = run.home / f"{name}.state.pt"
        self.step = 0
        self.seconds = 0.0
        if self.path.exists():
            self._load()

    @property
    def passed(self) -> float:
        """The share of the training that is over; a step may take it a little beyond 1."""
        return self.seconds / self.budget

    def descend(self, lesson: Lesson) -> None:
        """One step."""
        began = self.bench.clock()
        for group in self.optimiser.param_groups:
            group["lr"] = self.peak * self._share()
        with torch.autocast(
            self.bench.device.type,
            torch.bfloat16,
            enabled=self.bench.device.type == "cuda",
        ):
            found = lesson(self.model, self.step, self.passed)
        found["loss"].backward()
        length = nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self._average()
        self.step += 1
        if self.step % LOG_EVERY == 0:
            said = {name: each.item() for name, each in found.items()}
            self.bench.log(
                stage=self.name,
                step=self.step,
                **said,
                gradient=length.item(),
                seconds=round(self.seconds, 1),
            )
        length.item()  # waits for the device, so that the clock is right
        self.seconds += self.bench.clock() - began

    def save(self) -> None:
        parts = {
            name: getattr(self, name).state_dict() for name in ("model", "average", "optimiser")
        }
        torch.save({**parts, "step": self.step, "seconds": self.seconds}, self.path)

    def _load(self) -> None:
        state = torch.load(self.path, map_location=self.bench.device, weights_only=True)
        for name in ("model", "average", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.step = state["step"]
        self.seconds = state["seconds"]

    def _share(self) -> float:
        """Of the peak: up in a line, down in half a cosine."""
        rising = (self.step + 1) / WARM_UP
        return min(rising, 0.5 + 0.5 * math.cos(math.pi * min(1.0, self.passed)))

    def _average(self) -> None:
        keep = min(AVERAGE, (1 + self.step) / (10 + self.step))
        pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
        mine, theirs = zip(*((a.data, b.data) for a, b in pairs), strict=True)
        torch._foreach_lerp_(list(mine), list(theirs), 1 - keep)
