"""`farm health` reads the files of a worker, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from farm.health import ALIVE_S, HealthFiles, health, worker_health

LIMIT_MS = 50
"""Of a processor, from the start of a probe's process to its end; the best of several."""


@pytest.fixture
def files(tmp_path: Path) -> HealthFiles:
    """Those of a worker that has just started."""
    files = HealthFiles(tmp_path)
    files.begin()
    files.alive.touch()
    return files


def test_a_worker_that_loads_its_model_is_alive_and_not_ready(files):
    assert worker_health(files.folder, "live").good
    assert not worker_health(files.folder, "startup").good
    assert not worker_health(files.folder, "ready").good


def test_a_ready_worker_has_started(files):
    files.set_ready(True)
    assert worker_health(files.folder, "startup").good
    assert worker_health(files.folder, "ready").good


def test_a_draining_worker_is_alive_and_not_ready(files):
    files.set_ready(True)
    files.set_ready(False)
    assert worker_health(files.folder, "live").good
    assert not worker_health(files.folder, "ready").good


def test_a_worker_that_has_stopped_is_not_alive(files):
    files.set_ready(True)
    long_ago = time.time() - ALIVE_S - 1
    os.utime(files.alive, (long_ago, long_ago))
    assert not worker_health(files.folder, "live").good
    assert not worker_health(files.folder, "ready").good


def test_a_worker_begins_without_the_files_of_the_one_before(files):
    files.set_ready(True)
    files.begin()
    assert not worker_health(files.folder, "live").good


def test_all_workers_of_a_home_must_be_well(tmp_path):
    for kind in ("cpu", "gpu"):
        worker = HealthFiles(tmp_path / "run/health" / kind)
        worker.begin()
        worker.alive.touch()
        worker.set_ready(kind == "cpu")
    found = health({"FARM_HOME": str(tmp_path)}, "ready")
    assert not found.good
    assert len(found.line.splitlines()) == 2


def test_a_home_without_workers_is_not_well(tmp_path):
    assert not health({"FARM_HOME": str(tmp_path)}, "live").good


def probe(files: HealthFiles, *options: str) -> subprocess.CompletedProcess[str]:
    environ = {"FARM_HEALTH_FOLDER": str(files.folder), "FARM_BROKER_URL": "redis://127.0.0.1:1"}
    command = (str(Path(sys.executable).with_name("farm")), "health", *options)
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def test_the_command_says_in_one_line_what_it_found(files):
    found = probe(files, "--startup")
    assert found.returncode == 1
    assert found.stdout.count("\n") == 1
    assert "not ready" in found.stdout
    assert probe(files, "--live").returncode == 0


def test_a_misspelt_probe_is_no_success(files):
    assert probe(files, "--alive").returncode == 2


def test_a_probe_takes_less_than_50_ms(files):
    def taken_ms() -> float:
        before = sum(os.times()[2:4])  # of children that have ended
        assert probe(files, "--live").returncode == 0
        return 1000 * (sum(os.times()[2:4]) - before)

    assert min(taken_ms() for _ in range(20)) < LIMIT_MS
