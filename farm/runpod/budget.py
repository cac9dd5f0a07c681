"""What an endpoint may cost in an hour."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Self

from farm.engine.context import Context
from farm.engine.step_context import StepContext
from farm.errors import InvalidInput
from farm.estimate import chunk_s
from farm.settings import Settings


@dataclass(frozen=True)
class Budget:
    """GPU seconds in each hour (UTC), shared by all bridges of an endpoint."""

    limit_s: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The lower one of the settings in seconds and in money; InvalidInput without a price."""
        limits = [inf]
        if settings.bridge_gpu_s_per_hour is not None:
            limits.append(settings.bridge_gpu_s_per_hour)
        if settings.bridge_cost_per_hour is not None:
            if settings.bridge_price_per_s is None:
                raise InvalidInput(
                    "FARM_BRIDGE_PRICE_PER_S: not set; FARM_BRIDGE_COST_PER_HOUR needs it"
                )
            limits.append(settings.bridge_cost_per_hour / settings.bridge_price_per_s)
        return cls(min(limits))

    def has_room(self, ctx: Context, endpoint: str, gpu_s: float) -> bool:
        """Whether something of the hour is left, and enough for so many seconds."""
        if self.limit_s == inf:
            return True
        committed_s = ctx.registry.spending.of(endpoint).committed_s
        return committed_s < self.limit_s and committed_s + gpu_s <= self.limit_s

    def reserve(self, ctx: StepContext, endpoint: str, *, until: float) -> float:
        """0 if the chunk's seconds were reserved, else how many there was no room for."""
        pace = ctx.registry.steps.pace(ctx.request.model)
        gpu_s = chunk_s(ctx.request) * max(1.0, pace.ratio)
        reserved = ctx.registry.spending.reserve(
            endpoint, ctx.lease.attempt_id, gpu_s, until=until, limit_s=self.limit_s
        )
        return 0.0 if reserved else gpu_s
