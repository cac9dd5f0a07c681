"""Statistics of the whole farm, read with a bounded number of requests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import inf

from farm.estimate import Load
from farm.registry.backend import RegistryBackend
from farm.registry.entries import UNKNOWN_LENGTH
from farm.registry.keys import ENDED, LIVE, REMAINING, current_step_key
from farm.registry.pace import read_pace
from farm.registry.registry import Registry
from farm.route import Step, StepKind

MAX_JOBS = 20_000
"""Jobs whose estimates are read; those beyond count as much as these on average."""

MAX_STEPS = 2_000
"""Steps that are read as perhaps running: those whose lease would expire first."""

MIN_LEASE_S = 60.0
"""A lease may last this long at least: workers may have another setting than the reader."""


@dataclass(frozen=True)
class Statistics:
    """Seconds are those of a GPU of this farm, as fast as its last chunk was."""

    live: int
    orphaned: int
    running: Counter[StepKind]
    """Leased steps by kind."""
    unknown_length: int
    runnable: int
    """Jobs with chunks to make."""
    remaining_gpu_s: float
    workers: Counter[str]
    """Live workers by queue."""
    ended: dict[tuple[str, str], float]
    """Jobs by state and error code."""

    @property
    def wait_s(self) -> float:
        """Seconds until all chunks are made.

        A job is a sequence of chunks, so GPUs beyond the number of jobs do not help.
        """
        return self.remaining_gpu_s / max(1, min(self.workers["gpu"], self.runnable))


def read_statistics(registry: Registry, *, lease_s: float) -> Statistics:
    """The statistics as of now; FarmUnreachable if the backend does not answer."""
    backend = registry.backend
    now = backend.now()
    unknown_length, runnable = _runnable(backend)
    ended = backend.members_between(ENDED, 0, inf, MAX_STEPS)
    return Statistics(
        live=backend.size(REMAINING),
        orphaned=backend.size(LIVE, now),
        running=_running(registry, lease_s),
        unknown_length=unknown_length,
        runnable=runnable,
        remaining_gpu_s=_remaining_gpu_s(backend, runnable),
        workers=registry.workers.count_alive(),
        ended={_outcome(name): times for name, times in ended},
    )


def read_load(registry: Registry) -> Load:
    """What a job finds that is submitted now."""
    _, runnable = _runnable(registry.backend)
    return Load(runnable, registry.workers.count_alive()["gpu"])


def _runnable(backend: RegistryBackend) -> tuple[int, int]:
    """Jobs of unknown length, and all jobs with chunks to make."""
    unknown_length = backend.size(REMAINING, UNKNOWN_LENGTH)
    return unknown_length, backend.size(REMAINING) - backend.size(REMAINING, 0) + unknown_length


def _remaining_gpu_s(backend: RegistryBackend, runnable: int) -> float:
    """A job of unknown length counts as much as the others on average."""
    estimates = [seconds for _, seconds in backend.members_between(REMAINING, 0, inf, MAX_JOBS)]
    if not estimates:
        return 0.0
    mean_s = sum(estimates) / len(estimates)
    return runnable * mean_s * read_pace(backend).ratio


def running_steps(registry: Registry, *, lease_s: float) -> list[tuple[str, str]]:
    """Job and step of what has a lease, and of some others: the jobs are covered until a lease
    may expire, and no longer.
    """
    backend = registry.backend
    now = backend.now()
    latest = now + max(lease_s, MIN_LEASE_S)
    covered = backend.members_between(LIVE, now, latest, MAX_STEPS)
    job_ids = [job_id for job_id, _ in covered]
    step_ids = backend.get_all([current_step_key(job_id) for job_id in job_ids])
    steps = zip(job_ids, step_ids, strict=True)
    return [(job_id, step_id) for job_id, step_id in steps if step_id is not None]


def _running(registry: Registry, lease_s: float) -> Counter[StepKind]:
    """Leased steps by kind."""
    steps = running_steps(registry, lease_s=lease_s)
    leased = registry.steps.leased(steps)
    return Counter(
        Step.parse(step_id).kind
        for (_, step_id), is_leased in zip(steps, leased, strict=True)
        if is_leased
    )


def _outcome(name: str) -> tuple[str, str]:
    state, _, code = name.partition(" ")
    return state, code
