"""A batch whose workers and whose own command are killed halfway, and the same command again."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from farm import Farm
from farm.job import JobStatus
from farm.local.supervisor import Supervisor
from tests.integration.conftest import PORTRAIT
from tests.integration.test_farm import eventually

pytestmark = pytest.mark.timeout(600)

WANTED = ["id", "prompt", "cond_video", "cond_audio.person1", "frame_num", "motion_frame", "sample_steps"]
GOOD, BAD = 6, 2


@pytest.fixture
def table(tmp_path: Path, voice: Path) -> Path:
    """Rows whose videos are of five frames, and rows with mistakes."""
    good = [[f"good{number}", "x", str(PORTRAIT), str(voice), "5", "1", "1"] for number in range(GOOD)]
    bad = [
        ["bad0", "x", "nowhere.png", str(voice), "5", "1", "1"],
        ["bad1", "x", str(PORTRAIT), str(voice), "6", "1", "1"],
    ]
    with (tmp_path / "jobs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([WANTED, *good[:3], *bad, *good[3:]])
    return tmp_path / "jobs.csv"


def start(supervisor: Supervisor, table: Path) -> subprocess.Popen[str]:
    settings = supervisor.settings
    environ = {**os.environ, "FARM_HOME": str(settings.home), "FARM_BROKER_URL": str(settings.broker_url)}
    command = [
        sys.executable,
        "-m",
        "farm",
        "batch",
        "run",
        str(table),
        "--out",
        str(results(table)),
        "--in-flight",
        "4",
    ]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def results(table: Path) -> Path:
    return table.with_name("results.csv")


def lines(table: Path) -> list[dict[str, str]]:
    if not results(table).exists():
        return []
    with results(table).open(newline="") as file:
        return list(csv.DictReader(file))


def steps(farm: Farm, job: JobStatus) -> list[str | None]:
    """What the registry knows of a small job's steps."""
    step_ids = ("download", "embed", "generate-0000", "mux")
    return farm.context.registry.backend.get_all([f"product:{job.job_id}:{step_id}" for step_id in step_ids])


def test_what_was_killed_halfway_is_gone_on_with_and_nothing_is_made_twice(
    supervisor: Supervisor, farm: Farm, table: Path
) -> None:
    before = {job.job_id for job in farm.jobs(999)}
    first = start(supervisor, table)
    eventually(lambda: sum(line["status"] == "success" for line in lines(table)) >= 2, 120)
    for child in list(supervisor.children.values()):
        child.kill()
        child.wait()
    first.kill()
    first.wait()
    supervisor.replace_dead(lambda _: None)

    again = start(supervisor, table)
    try:
        told, said = again.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        raise AssertionError([(job, steps(farm, job)) for job in farm.jobs(999) if not job.ended]) from None

    assert again.returncode == 1, said
    assert told.splitlines()[-1].startswith(f"{GOOD + BAD} rows: {GOOD} videos, {BAD} invalid rows")
    ended = {line["id"]: line["status"] for line in lines(table)}
    assert len(ended) == len(lines(table)), "no row has two lines"
    assert Counter(ended.values()) == {"success": GOOD, "invalid": BAD}
    assert len({job.job_id for job in farm.jobs(999)} - before) == GOOD, "no row has two jobs"
