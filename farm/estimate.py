"""What a job takes: GPU seconds, time and money, by the farm's own pace or the reference card's.

Every interface shows an `Estimate` in the words of its `str`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

from farm.errors import InvalidInput
from farm.job import JobRequest, ResolvedRequest
from farm.plan import FPS, Plan
from farm.presets import QUANT_SHARES, REFERENCE_CARD, REFERENCE_DAY

CPU = "cpu"


def work(amount: str, unit: str, *, on_cpu: bool) -> str:
    """Seconds or hours of all cards in words, for instance `40 GPU seconds`; where a CPU is in
    their place, `40 seconds on the CPU`.
    """
    return f"{amount} {unit} on the CPU" if on_cpu else f"{amount} GPU {unit}"


def chunk_s(request: ResolvedRequest) -> float:
    """Seconds that each chunk of a job takes on one reference card."""
    return sampling_s(request) + decode_s(request)


def sampling_s(request: ResolvedRequest) -> float:
    """Those of all passes."""
    cost = request.preset.costs[request.size]
    pass_s = cost.pass_s[request.speakers] * QUANT_SHARES.get(request.quant or "", 1.0)
    return _length(request) * request.sample_steps * _passes(request) * pass_s


def decode_s(request: ResolvedRequest) -> float:
    """Those that follow the last pass."""
    return _length(request) * request.preset.costs[request.size].decode_s


def _length(request: ResolvedRequest) -> float:
    """Of a chunk, by the one that was measured."""
    return request.frame_num / request.preset.costs[request.size].frame_num


def _passes(request: ResolvedRequest) -> int:
    """Passes of the model in each denoise step: guidance by text and by audio adds one each."""
    if request.sample_text_guide_scale != 1:
        return 3
    if request.sample_audio_guide_scale != 1:
        return 2
    return 1


@dataclass(frozen=True)
class Pace:
    """How fast the gpu workers of a farm are with a model, by its last chunk; by default one
    reference card.
    """

    ratio: float = 1.0
    """Seconds of the chunk, over those of the reference card."""
    cards: int = 1
    """Cards that made it together."""
    is_measured: bool = False
    on_cpu: bool = False
    """Whether a CPU made it, in place of a GPU."""

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """The pace as the registry has it; None before the first chunk."""
        if text is None:
            return cls()
        ratio, cards, *device = text.split()
        return cls(float(ratio), int(cards), is_measured=True, on_cpu=device == [CPU])

    @property
    def gpu_ratio(self) -> float:
        """Seconds of all cards, over those of the reference card."""
        return self.ratio * self.cards

    @property
    def text(self) -> str:
        return f"{self.ratio:.4g} {self.cards}" + (f" {CPU}" if self.on_cpu else "")

    def __str__(self) -> str:
        if self.is_measured:
            return "this farm's pace"
        return f"the pace of one {REFERENCE_CARD}, as measured on {REFERENCE_DAY}"


@dataclass(frozen=True)
class Load:
    """What a new job finds: other jobs with chunks to make, and the gpu workers that make them."""

    jobs: int
    workers: int

    @property
    def turns(self) -> float | None:
        """Jobs that take turns at a worker, chunk by chunk, with the new one; None without one."""
        return max(1.0, (self.jobs + 1) / self.workers) if self.workers else None


Length = Literal["known", "from the text", "unknown"]


@dataclass(frozen=True)
class Estimate:
    """What a job takes; None for what is not known."""

    frames: int | None = None
    chunks: int | None = None
    gpu_s: float | None = None
    """Seconds of all cards."""
    cost: float | None = None
    """Money, at FARM_GPU_PRICE_PER_H."""
    wait_s: float | None = None
    """Until the first chunk begins."""
    time_s: float | None = None
    """Until the last chunk is made."""
    length: Length = "unknown"
    on_cpu: bool = False
    """Whether `gpu_s` are seconds of a CPU, because the farm has no GPU."""
    pace: str = str(Pace())
    warnings: tuple[str, ...] = ()
    """What the video loses of the voice."""

    def __str__(self) -> str:
        if self.frames is None:
            return "unknown until the length of the voice is known"
        seconds = f"{self.frames / FPS:,.1f} s of video"
        if self.length == "from the text":
            seconds = f"about {seconds}, by the characters of the text"
        chunks = "1 chunk" if self.chunks == 1 else f"{self.chunks:,} chunks"
        parts = [
            f"{seconds} ({self.frames:,} frames, {chunks})",
            f"about {work(f'{self.gpu_s:,.0f}', 'seconds', on_cpu=self.on_cpu)} at {self.pace}",
        ]
        if self.cost is not None:
            parts.append(f"cost about {money(self.cost)}")
        if self.wait_s is not None and self.time_s is not None:
            wait = f"begins in about {in_words(self.wait_s)}, " if self.wait_s else ""
            parts.append(f"{wait}ready in about {in_words(self.time_s)}")
        return "; ".join([*parts, *self.warnings])


def estimate(
    request: ResolvedRequest,
    plan: Plan,
    pace: Pace,
    *,
    price_per_h: float | None,
    load: Load | None = None,
    length: Length = "known",
    warnings: Sequence[str] = (),
) -> Estimate:
    """The estimate of a job with that plan; without a load its wait and time are unknown."""
    worker_s = chunk_s(request) * pace.ratio
    gpu_s = plan.chunks * chunk_s(request) * pace.gpu_ratio
    turns = load.turns if load else None
    return Estimate(
        frames=plan.frames,
        chunks=plan.chunks,
        gpu_s=gpu_s,
        cost=None if price_per_h is None else gpu_s / 3600 * price_per_h,
        wait_s=None if turns is None else (turns - 1) * worker_s,
        time_s=None if turns is None else turns * plan.chunks * worker_s,
        length=length,
        on_cpu=pace.on_cpu,
        pace=str(pace),
        warnings=tuple(warnings),
    )


def check_cost(request: JobRequest, found: Estimate) -> None:
    """Raises InvalidInput if a job costs more than its caller allows; not by a guessed length."""
    limit = request.max_cost
    if limit is None or found.cost is None or found.length != "known":
        return
    if found.cost > limit:
        raise InvalidInput(
            f"max_cost: got {limit:g}; the estimate is {found}; allowed: that or more, or null"
        )


def money(amount: float) -> str:
    """An amount in the currency of the price: of a small one two digits that are not 0."""
    return f"{amount:,.2f}" if amount >= 1 or amount == 0 else f"{amount:.2g}"


def in_words(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"
