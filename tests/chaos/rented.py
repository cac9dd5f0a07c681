"""Kills a farm's cpu worker, bridges and handlers at random, and counts.

python -m tests.chaos.rented [--seconds 600] [--seed 1]
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from farm import Job
from tests.chaos.outcome import WorkerLogs, digest_of_frames
from tests.chaos.run import job_fields
from tests.chaos.testbed import TIMEOUT_S
from tests.support.rented_farm import RentedFarm, rented_farm
from tests.support.swift import Swift

LIVE_JOBS = 3
"""Jobs that are kept going as long as workers are killed."""

PAUSE_S = (1.0, 5.0)
"""The shortest and the longest time between two kills."""

ATTEMPTS = 50
"""So that no job fails because its workers are killed all the time."""


@dataclass(frozen=True)
class RentedOutcome:
    """What came of it."""

    killed: dict[str, int]
    submitted: int
    finished: int
    lost: int
    """Jobs that did not succeed."""
    different: int
    """Videos whose frames are not those of the undisturbed run."""
    committed_twice: int
    remote_jobs: int
    runs: int
    """How often a handler was given a job."""
    committed: int
    """Chunks that were committed."""

    @property
    def thrown_away(self) -> int:
        """Runs that led to nothing: killed, or computed once more than needed."""
        return self.runs - self.committed

    @property
    def good(self) -> bool:
        return self.lost + self.different + self.committed_twice == 0


def run_rented(home: Path, swift: Swift, *, seconds: float, seed: int) -> RentedOutcome:
    """A farm without a GPU, under random kills for a while, then until all jobs have ended."""
    choice = random.Random(seed)
    fields = job_fields(home.parent)
    with rented_farm(home, swift, max_attempts=ATTEMPTS) as farm:
        _start_all(farm)
        undisturbed = farm.farm.submit(fields)
        undisturbed.wait(TIMEOUT_S)
        expected = digest_of_frames(undisturbed)
        before = (len(farm.remote_jobs), len(farm.outputs(undisturbed)))
        jobs, killed = _disturb(farm, fields, seconds, choice)
        for job in jobs:
            job.wait(TIMEOUT_S)
        finished = [job for job in jobs if job.status().state == "success"]
        remote = farm.remote_jobs[before[0] :]
        return RentedOutcome(
            killed=dict(killed),
            submitted=len(jobs),
            finished=len(finished),
            lost=len(jobs) - len(finished),
            different=sum(digest_of_frames(job) != expected for job in finished),
            committed_twice=WorkerLogs(home, "*.log").committed_twice(),
            remote_jobs=len(remote),
            runs=sum(len(each.runs) for each in remote),
            committed=sum(len(farm.outputs(job)) for job in jobs),
        )


def _start_all(farm: RentedFarm) -> None:
    farm.start_bridge()
    farm.start_bridge()
    farm.start_handler()
    farm.start_handler()


def _disturb(
    farm: RentedFarm, fields: dict[str, Any], seconds: float, choice: random.Random
) -> tuple[list[Job], Counter[str]]:
    """The jobs that were submitted meanwhile, and how many workers of each kind were killed."""
    jobs: list[Job] = []
    killed: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        while sum(not job.status().ended for job in jobs) < LIVE_JOBS:
            jobs.append(farm.farm.submit(fields))
        time.sleep(choice.uniform(*PAUSE_S))
        kind = choice.choice(["cpu", "bridge", "handler"])
        _kill_one(farm, kind, choice)
        killed[kind] += 1
    return jobs, killed


def _kill_one(farm: RentedFarm, kind: str, choice: random.Random) -> None:
    """Kills a worker of a kind, and starts another one."""
    if kind == "cpu":
        farm.cpu_worker.kill()
        farm.start_cpu_worker()
    elif kind == "bridge":
        choice.choice([each for each in farm.bridges if each.poll() is None]).kill()
        farm.start_bridge()
    else:
        choice.choice([each for each in farm.handlers if each.process.poll() is None]).kill()
        farm.start_handler()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.rented", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long (default: 600)")
    parser.add_argument("--seed", type=int, default=1, help="of the random kills (default: 1)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        swift = Swift(Path(folder) / "swift")
        try:
            outcome = run_rented(
                Path(folder) / "farm", swift, seconds=options.seconds, seed=options.seed
            )
        finally:
            swift.stop()
    for name, value in asdict(outcome).items():
        print(f"{name.replace('_', ' '):>16}: {value}")
    print(f"{'thrown away':>16}: {outcome.thrown_away}")
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main())
