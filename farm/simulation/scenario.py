"""One question to the simulation: a load, a model and GPUs; and the row that answers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf

from farm.errors import InvalidInput
from farm.estimate import chunk_s
from farm.job import JobRequest, resolve
from farm.plan import FPS
from farm.presets import DISTILLED_STEPS, preset
from farm.simulation.arrivals import Pattern, arrivals
from farm.simulation.fleet import Fleet, Video
from farm.simulation.run import Outcome, Run, Sample


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU."""

    speed: float
    """As a multiple of the reference card's."""
    price_per_s: float


GPUS = {"h100": Gpu(0.98, 0.00116), "h200": Gpu(1.0, 0.00155)}
"""Speeds as measured (docs/lab-log.md), of an H100 before kernels were renewed; dollars as Runpod's
list had them in November 2026.
"""


@dataclass(frozen=True)
class Scenario:
    pattern: Pattern
    per_hour: float
    hours: float
    video: Video
    gpu: Gpu
    fleet: Fleet | None
    """None: GPUs that stay, as few as keep the 95th percentile of the wait below `target_s`."""
    target_s: float
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """Waits are from a submission to its first chunk, times to the end of its last."""

    videos: int
    gpus: int
    """The most at once."""
    gpu_hours: float
    cost_per_minute: float
    """Of video."""
    wait_p50_s: float
    wait_p95_s: float
    time_p95_s: float
    idle_share: float
    lost_chunks: int
    samples: Sequence[Sample]


def make_video(
    model: str, *, steps: int | None, size: str | None, seconds: float, gpu: Gpu, prepare_s: float
) -> Video:
    """The chunks of a video of one speaker; InvalidInput for what the model does not make."""
    asked = {"sample_steps": steps, "size": size}
    request = resolve(
        JobRequest.parse(
            {
                "prompt": "a person talks",
                "cond_video": "face.png",
                "cond_audio": {"person1": "voice.wav"},
                "mode": "streaming",
                "max_frame_num": ceil(seconds * FPS),
                **{name: value for name, value in asked.items() if value is not None},
                **({"sample_text_guide_scale": 1} if (steps or inf) <= DISTILLED_STEPS else {}),
            }
        ),
        preset(model),
    )
    chunks = request.plan(ceil(seconds * FPS)).chunks
    return Video(chunks, chunk_s(request) / gpu.speed, seconds, prepare_s)


def answer(scenario: Scenario) -> Answer:
    """Simulates it; several times if the number of GPUs is asked for."""
    times = arrivals(
        scenario.pattern, per_hour=scenario.per_hour, hours=scenario.hours, seed=scenario.seed
    )
    if not times:
        raise InvalidInput(f"videos: got {scenario.per_hour:g} an hour, of which none comes")
    if scenario.fleet is None:
        outcome = _fewest(scenario, times)
    else:
        outcome = Run(scenario.video, scenario.fleet, seed=scenario.seed).run(times)
    return _answer(scenario, outcome)


def _fewest(scenario: Scenario, times: Sequence[float]) -> Outcome:
    """The run with the fewest GPUs that keep the wait, found by bisection.

    They can do all the work in the hours of its submission. With fewer a backlog would grow, which
    waits for first chunks do not show: the chunks of all jobs take turns.
    """
    work_s = len(times) * scenario.video.chunks * scenario.video.chunk_s
    enough = ceil(work_s / (scenario.hours * 3600))
    too_few = enough - 1
    outcome = _fixed(scenario, times, enough)
    while not _keeps(scenario, outcome):
        too_few = enough
        enough = ceil(enough * 1.2) + 1
        outcome = _fixed(scenario, times, enough)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        tried = _fixed(scenario, times, middle)
        if _keeps(scenario, tried):
            enough, outcome = middle, tried
        else:
            too_few = middle
    return outcome


def _fixed(scenario: Scenario, times: Sequence[float], gpus: int) -> Outcome:
    return Run(scenario.video, Fleet(max_gpus=gpus, min_gpus=gpus)).run(times)


def _keeps(scenario: Scenario, outcome: Outcome) -> bool:
    wait_s = quantile(outcome.waits, 0.95) - scenario.video.prepare_s
    return wait_s <= scenario.target_s


def _answer(scenario: Scenario, outcome: Outcome) -> Answer:
    minutes = len(outcome.times) * scenario.video.seconds / 60
    return Answer(
        videos=len(outcome.times),
        gpus=outcome.peak_gpus,
        gpu_hours=outcome.paid_s / 3600,
        cost_per_minute=outcome.paid_s * scenario.gpu.price_per_s / minutes,
        wait_p50_s=quantile(outcome.waits, 0.5),
        wait_p95_s=quantile(outcome.waits, 0.95),
        time_p95_s=quantile(outcome.times, 0.95),
        idle_share=outcome.idle_share,
        lost_chunks=outcome.lost_chunks,
        samples=outcome.samples,
    )


def within_budget(fleet: Fleet, gpu: Gpu, budget_per_hour: float | None) -> Fleet:
    """The fleet with no more GPUs than may be paid for; InvalidInput if that is none."""
    if budget_per_hour is None:
        return fleet
    affordable = int(budget_per_hour / (gpu.price_per_s * 3600))
    if affordable < max(1, fleet.min_gpus):
        raise InvalidInput(
            f"budget: got {budget_per_hour:g} an hour, which pays for {affordable} GPUs at "
            f"{gpu.price_per_s * 3600:.2f} each; allowed: enough for {max(1, fleet.min_gpus)}"
        )
    return replace(fleet, max_gpus=min(fleet.max_gpus, affordable))


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[round(share * (len(values) - 1))]
