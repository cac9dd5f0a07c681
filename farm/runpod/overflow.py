"""When chunks overflow to the endpoint, and what becomes of its jobs whose bridge has gone."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace

from celery import Celery

from farm.engine.context import Context
from farm.errors import FarmError
from farm.logs import log
from farm.queue.dispatch import redispatch
from farm.registry.spending import HOUR_S
from farm.registry.statistics import read_statistics
from farm.route import Step
from farm.runpod.bridge import Bridge, is_abandoned

PAUSE_S = 15.0
"""How long no chunk is taken after the endpoint has refused one."""


@dataclass
class Overflow:
    """Whether a bridge takes new chunks. Those under way are followed all the same."""

    bridge: Bridge
    ctx: Context
    _paused_until: float = 0.0
    _lacking: tuple[int, float] = (0, 0.0)
    """An hour, and the GPU seconds for which its budget had no room."""

    def pause(self, reason: str, gpu_s: float = 0.0) -> None:
        """Takes no chunk for a while, or of a budget that lacks room for one, until it has that."""
        now = self.ctx.registry.now()
        is_new = now > self._paused_until
        if gpu_s:
            self._lacking = (_hour(now), gpu_s)
        self._paused_until = now + PAUSE_S
        if is_new:
            log("bridge_paused", reason=reason, pause_s=PAUSE_S)

    def is_open(self) -> bool:
        """Whether new chunks go to the endpoint now."""
        if self.ctx.registry.now() < self._paused_until or not self._is_within_budget():
            return False
        own_gpus = self.ctx.registry.workers.count_own_gpus()
        if own_gpus == 0:
            return True
        limit_s = self.ctx.settings.bridge_overflow_wait_s
        return limit_s is not None and self._wait_s(own_gpus) > limit_s

    def _is_within_budget(self) -> bool:
        hour, gpu_s = self._lacking
        needed_s = gpu_s if hour == _hour(self.ctx.registry.now()) else 0.0
        return self.bridge.budget.has_room(self.ctx, self.bridge.endpoint, needed_s)

    def _wait_s(self, own_gpus: int) -> float:
        """The predicted wait if the farm had only its own GPUs, or a bridge would flap."""
        statistics = read_statistics(self.ctx.registry, lease_s=self.ctx.settings.lease_s)
        return replace(statistics, workers=Counter(gpu=own_gpus)).wait_s


def _hour(now: float) -> int:
    return int(now // HOUR_S)


def cancel_abandoned(bridge: Bridge, ctx: Context) -> None:
    """Ends the abandoned remote jobs of dead bridges."""
    ctx.registry.remote.forget_expired()
    for attempt in ctx.registry.remote.attempts():
        try:
            if is_abandoned(ctx, attempt):
                bridge.cancel(ctx, attempt)
        except FarmError as error:  # a record of another version, for instance
            log("reconcile_failed", level=logging.WARNING, reason=error.message)


def recall(app: Celery, ctx: Context) -> None:
    """Dispatches chunks of dead bridges to those that live, if they wait for a GPU meanwhile."""
    for attempt in ctx.registry.remote.attempts():
        step = Step.parse(attempt.step_id)

        def claim(ctx: Context, job_id: str, step: Step = step) -> Step | None:
            return step if ctx.registry.steps.recall(job_id, step.id) else None

        redispatch(app, ctx, attempt.job_id, claim)
