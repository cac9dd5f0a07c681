"""When chunks overflow to the endpoint, and which of its jobs nobody needs any more."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field, replace

from farm.engine.context import Context
from farm.logs import log
from farm.registry.statistics import read_statistics
from farm.runpod.bridge import Bridge, is_abandoned

PAUSE_S = 15.0
"""How long no chunk is taken after the endpoint has refused one."""


@dataclass
class Overflow:
    """Whether a bridge takes new chunks. Those under way are followed all the same."""

    bridge: Bridge
    ctx: Context
    _paused_until: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def pause(self, reason: str) -> None:
        """Takes no chunk for a while; called by any thread."""
        now = self.ctx.registry.now()
        with self._lock:
            is_new = now > self._paused_until
            self._paused_until = now + PAUSE_S
        if is_new:
            log("bridge_paused", reason=reason, pause_s=PAUSE_S)

    def is_open(self) -> bool:
        """Whether new chunks go to the endpoint now."""
        is_paused = self.ctx.registry.now() < self._paused_until
        if is_paused or not self._is_within_budget():
            return False
        own_gpus = self.ctx.registry.workers.count_own_gpus()
        if own_gpus == 0:
            return True
        limit_s = self.ctx.settings.bridge_overflow_wait_s
        return limit_s is not None and self._wait_s(own_gpus) > limit_s

    def _is_within_budget(self) -> bool:
        budget_s = self.bridge.budget_s
        if budget_s is None:
            return True
        return self.ctx.registry.remote.spending(self.bridge.endpoint).committed_s < budget_s

    def _wait_s(self, own_gpus: int) -> float:
        """The predicted wait if the farm had only its own GPUs, or a bridge would flap."""
        statistics = read_statistics(self.ctx.registry, lease_s=self.ctx.settings.lease_s)
        return replace(statistics, workers=Counter(gpu=own_gpus)).wait_s


def cancel_abandoned(bridge: Bridge, ctx: Context) -> None:
    """Ends the remote jobs that dead bridges have left behind and nobody needs."""
    ctx.registry.remote.forget_expired()
    for attempt in ctx.registry.remote.attempts(bridge.endpoint):
        if is_abandoned(ctx, attempt):
            bridge.cancel(ctx, attempt)
