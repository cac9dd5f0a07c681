"""When videos are submitted: seconds from the start, ascending, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from math import cos, pi
from random import Random
from typing import Literal, get_args

Pattern = Literal["steady", "evening", "burst"]
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)

PEAK = 0.8
"""By how much the evening's rate is above the mean, and the morning's below it."""

PEAK_HOUR = 20

BURST_S = 60.0
"""Within this time all videos of an hour come."""


def arrivals(pattern: Pattern, *, per_hour: float, hours: float, seed: int = 0) -> list[float]:
    """The times of all submissions, by independent callers.

    `steady` has one rate, `evening` that of a day with its peak at 20:00 which begins at midnight;
    with `burst` the videos of each hour come within its first minute.
    """
    random = Random(seed)
    if pattern == "burst":
        return sorted(_bursts(random, per_hour, hours))
    peak = 1 + PEAK if pattern == "evening" else 1
    times = _poisson(random, per_hour * peak / 3600, hours * 3600)
    if pattern == "steady":
        return list(times)
    return [at for at in times if random.random() < _evening(at) / peak]


def _poisson(random: Random, rate: float, end: float) -> Iterator[float]:
    """`rate` is that of a second."""
    at = random.expovariate(rate)
    while at < end:
        yield at
        at += random.expovariate(rate)


def _evening(at: float) -> float:
    """The rate at a time of the day, as a multiple of the mean."""
    return 1 + PEAK * cos(2 * pi * (at / 3600 - PEAK_HOUR) / 24)


def _bursts(random: Random, per_hour: float, hours: float) -> Iterator[float]:
    for number in range(round(per_hour * hours)):
        hour = int(number // per_hour)
        yield hour * 3600 + random.uniform(0, BURST_S)
