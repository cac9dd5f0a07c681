"""A batch whose workers and command are killed halfway, and the same command again."""

from __future__ import annotations

import csv
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from farm import Farm
from tests.integration.conftest import PORTRAIT
from tests.support.commands import environ_of, start_farm_command
from tests.support.holding import hold
from tests.support.small_farm import SmallFarm
from tests.support.waiting import wait_for

ROW = {
    "prompt": "x",
    "cond_video": str(PORTRAIT),
    "mode": "streaming",
    "frame_num": "5",
    "max_frame_num": "5",
    "motion_frame": "1",
    "sample_steps": "1",
}
VALID = 6
INVALID = 2
SECOND_CHUNK = "chunk_1_sampling_0"
"""A stage that only the fourth row comes to."""


@pytest.fixture
def table(tmp_path: Path, voice: Path) -> Path:
    """Rows whose videos have five frames, one of nine, and rows with errors."""
    given = {**ROW, "cond_audio.person1": str(voice)}
    rows = [{"id": f"valid{number}", **given} for number in range(VALID)]
    rows[3]["max_frame_num"] = "9"
    rows[3:3] = [
        {"id": "invalid0", **given, "cond_video": "nowhere.png"},
        {"id": "invalid1", **given, "frame_num": "6"},
    ]
    path = tmp_path / "jobs.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def start(supervisor: SmallFarm, table: Path) -> subprocess.Popen[str]:
    out = str(results_of(table))
    words = ("batch", "run", str(table), "--output", out, "--max-in-flight", "4")
    return start_farm_command(environ_of(supervisor.settings), *words)


def results_of(table: Path) -> Path:
    return table.with_name("results.csv")


def results(table: Path) -> list[dict[str, str]]:
    """The rows of the results so far."""
    if not results_of(table).exists():
        return []
    with results_of(table).open(newline="") as file:
        return list(csv.DictReader(file))


def successes(table: Path) -> int:
    return sum(row["status"] == "success" for row in results(table))


def test_a_batch_killed_halfway_is_resumed_and_repeats_nothing(
    supervisor: SmallFarm, farm: Farm, table: Path
) -> None:
    before = {job.job_id for job in farm.jobs(999)}
    with hold(supervisor.settings, SECOND_CHUNK):
        first = start(supervisor, table)
        wait_for(lambda: successes(table) >= 2)
        wait_for(lambda: any(job.stage == SECOND_CHUNK for job in farm.jobs(VALID)))
        for child in supervisor.children.values():
            child.kill()
            child.wait()
        first.kill()
        first.communicate()
    supervisor.restart_dead()

    again = start(supervisor, table)
    stdout, stderr = again.communicate()

    assert again.returncode == 1, stderr
    summary = f"{VALID + INVALID} rows: {VALID} succeeded, {INVALID} invalid"
    assert stdout.splitlines()[-1].startswith(summary)
    ended = {row["id"]: row["status"] for row in results(table)}
    assert len(ended) == len(results(table)), "no row has two results"
    assert Counter(ended.values()) == {"success": VALID, "invalid": INVALID}
    assert len({job.job_id for job in farm.jobs(999)} - before) == VALID, "no row has two jobs"
