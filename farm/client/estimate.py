"""Estimates of jobs, before they are submitted, by what a farm knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from farm.engine.context import Context
from farm.errors import FarmUnreachable
from farm.estimate import Estimate, Length, Load, Pace, estimate
from farm.job import ResolvedRequest
from farm.media.speaking_rate import spoken_seconds
from farm.plan import frames_of
from farm.registry.statistics import read_load


@dataclass(frozen=True)
class Estimator:
    """Estimates jobs by a farm at one moment: its models with their paces, its load and price, as
    far as known.
    """

    models: Sequence[str]
    paces: Mapping[str, Pace]
    load: Load | None
    price_per_h: float | None

    @classmethod
    def of(cls, ctx: Context) -> Self:
        """That of the settings and the reference card if no broker answers."""
        settings = ctx.settings
        price = settings.gpu_price_per_h
        registry = ctx.registry
        try:
            models = registry.workers.models() or settings.presets
            return cls(models, registry.steps.paces(models), read_load(registry), price)
        except FarmUnreachable:
            return cls(settings.presets, {}, None, price)

    def pace(self, model: str) -> Pace:
        """That of the reference card for a model that has made no chunk."""
        return self.paces.get(model, Pace())

    def estimate(self, request: ResolvedRequest, recordings: Sequence[float | None]) -> Estimate:
        """What a job takes whose recordings have these seconds, None for one that is elsewhere."""
        seconds = audio_seconds(request, recordings)
        length: Length = "known"
        if request.tts_audio:
            seconds = spoken_seconds(request.tts_audio)
            length = "from the text"
        if seconds is None:
            return Estimate(pace=str(self.pace(request.model)))
        return estimate(
            request,
            request.plan_of(seconds),
            self.pace(request.model),
            price_per_h=self.price_per_h,
            load=self.load,
            length=length,
            warnings=request.cut(frames_of(seconds) if length == "known" else None),
        )


def audio_seconds(request: ResolvedRequest, recordings: Sequence[float | None]) -> float | None:
    """The length of the audio; None unless all of it is in recordings of known length."""
    known = [seconds for seconds in recordings if seconds is not None]
    if not known or len(known) < len(recordings):
        return None
    return sum(known) if request.audio_type == "add" else max(known)
