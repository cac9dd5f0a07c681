"""What the book says of the whole farm, in a bounded number of looks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import inf

from farm.registry import Registry
from farm.registry.registry import UNHEARD, Ledger

MOST_JOBS = 20_000
"""Jobs whose forecasts are read; those beyond count as much as these on average."""

MOST_RUNNING = 2_000
"""Steps that are looked at as perhaps running: those whose lease would run out as soon."""

LEASE_S = 60.0
"""How long a lease is thought to last at least: workers may have another setting than whoever looks."""

PRESENT_S = 30.0
"""How long a worker counts as there after it has said so."""


@dataclass(frozen=True)
class Census:
    """Seconds are those of a GPU of this farm, as its last chunk went; `ended` counts by outcome and error code."""

    live: int
    idle: int
    running: Counter[str]
    unheard: int
    runnable: int
    ahead_s: float
    workers: Counter[str]
    ended: dict[tuple[str, ...], float]

    @property
    def wait_s(self) -> float:
        """Seconds until all chunks are made: a job is a sequence, so no more GPUs help than there are jobs."""
        return self.ahead_s / max(1, min(self.workers["gpu"], self.runnable))


def census(registry: Registry, *, lease_s: float) -> Census:
    """How things stand now; FarmUnreachable if nobody knows."""
    ledger = registry.ledger
    now = ledger.now()
    unheard = ledger.size("ahead", UNHEARD)
    runnable, ahead_s = _ahead(ledger, unheard)
    present = ledger.between("workers", now - PRESENT_S, inf, MOST_RUNNING)
    ended = ledger.between("ended", 0, inf, MOST_RUNNING)
    return Census(
        live=ledger.size("ahead"),
        idle=ledger.size("live", now),
        running=_running(registry, now, lease_s),
        unheard=unheard,
        runnable=runnable,
        ahead_s=ahead_s,
        workers=Counter(name.partition(" ")[0] for name, _ in present),
        ended={_outcome(name): times for name, times in ended},
    )


def _ahead(ledger: Ledger, unheard: int) -> tuple[int, float]:
    """How many jobs have chunks to make, and the seconds for them; one that nobody has heard counts like the others."""
    forecasts = [seconds for _, seconds in ledger.between("ahead", 0, inf, MOST_JOBS)]
    runnable = ledger.size("ahead") - ledger.size("ahead", 0) + unheard
    mean_s = sum(forecasts) / len(forecasts) if forecasts else 0.0
    (pace,) = ledger.get_all(["pace"])
    return runnable, runnable * mean_s * float(pace or 1)


def _running(registry: Registry, now: float, lease_s: float) -> Counter[str]:
    """Steps that are leased, by station: their jobs are cared for until the lease runs out, and no longer."""
    ledger = registry.ledger
    job_ids = [job_id for job_id, _ in ledger.between("live", now, now + max(lease_s, LEASE_S), MOST_RUNNING)]
    step_ids = ledger.get_all([f"at:{job_id}" for job_id in job_ids]) if job_ids else []
    steps = [(job_id, step_id) for job_id, step_id in zip(job_ids, step_ids, strict=True) if step_id]
    return Counter(
        step_id.partition("-")[0] for (_, step_id), leased in zip(steps, registry.leased(steps), strict=True) if leased
    )


def _outcome(name: str) -> tuple[str, ...]:
    state, _, code = name.partition(" ")
    return state, code
