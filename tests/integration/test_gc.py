"""What is left on disk after jobs, a killed worker and `farm gc`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm import Farm
from farm.engine.scratch import LOCK, MIN_AGE_S
from farm.local.supervisor import Supervisor, open_supervisor
from farm.settings import Settings
from farm.store import keys
from tests.integration.test_farm import children_of, eventually


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """A farm whose workers have a temporary folder of their own."""
    home = tmp_path_factory.mktemp("home")
    (home / "tmp").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(home / "tmp"))
        with open_supervisor(Settings(home=home, lease_s=3, reap_every_s=1)) as supervisor:
            yield supervisor


def gc(supervisor: Supervisor, *words: str) -> list[dict[str, Any]]:
    settings = supervisor.settings
    ours = {"FARM_HOME": str(settings.home), "FARM_BROKER_URL": str(settings.broker_url)}
    environ = {**os.environ, **ours, "FARM_KEEP_INTERMEDIATES_S": "0"}
    command = [sys.executable, "-m", "farm", "gc", "--json", *words]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def scratch_folders(supervisor: Supervisor) -> list[Path]:
    return list((supervisor.settings.home / "tmp").glob("farm-*"))


def test_gc_leaves_of_finished_jobs_their_videos_and_of_dead_workers_nothing(
    supervisor: Supervisor, small: dict[str, Any], tmp_path: Path
) -> None:
    # Given a job whose worker was killed under way
    farm = Farm(settings=supervisor.settings)
    job = farm.submit(small)
    eventually(lambda: job.status().stage.startswith("chunk_1_sampling"))
    assert gc(supervisor) == [], "nothing of a job that goes on"
    for child in children_of(supervisor.children["gpu"].pid):
        os.kill(child, signal.SIGKILL)
    result = job.result(timeout_s=60)
    eventually(lambda: farm.context.registry.jobs.live() == [])
    (left,) = scratch_folders(supervisor)
    old = (left / LOCK).stat().st_mtime - MIN_AGE_S - 1
    os.utime(left / LOCK, (old, old))

    # When it is swept
    stored = list(farm.context.store.keys(""))
    told = gc(supervisor, "--dry-run")
    assert list(farm.context.store.keys("")) == stored
    swept = gc(supervisor)

    # Then the video is left
    assert told == swept
    assert [each["reason"] for each in swept] == ["intermediate", "abandoned"]
    kept = {artifact.url.rpartition("/")[2] for artifact in result.artifacts} | {
        keys.OUTPUT,
        "end.json",
        "request.json",
    }
    assert {key.rpartition("/")[2] for key in farm.context.store.keys(f"jobs/{job.id}/")} == kept
    assert job.save(tmp_path / "video.mp4").stat().st_size == result.video.bytes
    assert scratch_folders(supervisor) == []
    assert gc(supervisor) == []
