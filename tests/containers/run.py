"""One scenario in a running project, and its line in the table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory

from farm import Job
from tests.chaos.outcome import WorkerLogs, digest_of_frames
from tests.chaos.run import job_fields
from tests.containers.project import TIMEOUT_S, Project
from tests.containers.scenarios import Scenario

FIELDS = {"max_frame_num": 69, "sample_steps": 3}
"""Four chunks of three denoise steps: on two busy cores a chunk takes 20 s, few of it in steps."""


@dataclass(frozen=True)
class Outcome:
    """One line of the table."""

    scenario: str
    submitted: int
    finished: int
    lost: int
    """Jobs that never ended, or not as they must."""
    different: int
    """Videos whose frames are not those of an undisturbed run."""
    committed_twice: int
    redone: int
    """Further attempts at chunks."""
    recovered_s: float
    """The longest time from a fault to the next commit."""
    took_s: float

    @property
    def good(self) -> bool:
        return self.lost + self.different + self.committed_twice == 0


def run_all(project: Project, scenarios: Mapping[str, Scenario]) -> Iterator[Outcome]:
    """The outcome of each; all videos must be the first one."""
    expected: str | None = None
    for scenario in scenarios.values():
        outcome, digest = run(project, scenario, expected)
        expected = expected or digest
        yield outcome


def run(project: Project, scenario: Scenario, expected: str | None) -> tuple[Outcome, str | None]:
    """The outcome, and the digest of a video."""
    start = time.monotonic()
    request = {**job_fields(project.folder), **FIELDS}
    farm = project.farm
    jobs = [farm.submit({**request, **scenario.fields})]
    jobs += [farm.submit(request) for _ in range(scenario.jobs - 1)]
    faults = scenario.disturb(project, jobs)
    with suppress(TimeoutError):
        project.wait_for(lambda: all(job.status().ended for job in jobs), TIMEOUT_S)
    states = [job.status() for job in jobs]
    finished = [job for job, status in zip(jobs, states, strict=True) if status.state == "success"]
    digests = [digest_of_frames(job) for job in finished]
    expected = expected or next(iter(digests), None)
    right = [job for job in finished if scenario.error is None or job is not jobs[0]]
    good = len(right) + _ended_as_expected(jobs[0], scenario)
    with TemporaryDirectory() as home:
        project.write_logs(Path(home))
        logs = WorkerLogs(Path(home))
    ids = {job.id for job in jobs}
    logs.entries = [entry for entry in logs.entries if entry.get("job_id") in ids]
    assert len(logs.times("step_committed")) >= len(finished), "the workers' logs are missing"
    outcome = Outcome(
        scenario=scenario.title,
        submitted=len(jobs),
        finished=len(finished),
        lost=len(jobs) - good,
        different=sum(digest != expected for digest in digests),
        committed_twice=logs.committed_twice(),
        redone=logs.redone(),
        recovered_s=logs.recovered_s(faults),
        took_s=time.monotonic() - start,
    )
    return outcome, expected


def _ended_as_expected(job: Job, scenario: Scenario) -> int:
    """1 if a job that must fail did so with its error, which is printed."""
    result = job.status().result
    error = result.error if result else None
    if scenario.error is None or error is None:
        return 0
    print(f"    {error.code}: {error.message}")
    return int(error.code == scenario.error)


COLUMNS = [each.name for each in fields(Outcome)][1:]
TITLE_WIDTH = 40


def heading() -> str:
    names = (column.replace("_", " ") for column in COLUMNS)
    return " " * TITLE_WIDTH + " ".join(f"{name:>15}" for name in names)


def row(outcome: Outcome) -> str:
    figures = " ".join(f"{getattr(outcome, column):15.4g}" for column in COLUMNS)
    return f"{outcome.scenario:{TITLE_WIDTH}}{figures}"
