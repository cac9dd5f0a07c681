"""What is left on disk after jobs, a killed worker and `farm gc`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from farm import Farm
from farm.engine.scratch import MIN_AGE_S
from farm.store import keys
from tests.support.commands import environ_of, run_farm_command
from tests.support.holding import job_held_at
from tests.support.processes import kill_children
from tests.support.small_farm import SmallFarm, small_farm
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallFarm]:
    """A farm whose workers have a temporary folder to themselves."""
    home = tmp_path_factory.mktemp("home")
    (home / "tmp").mkdir()
    with patch.dict(os.environ, TMPDIR=str(home / "tmp")), small_farm(home) as supervisor:
        yield supervisor


def gc(supervisor: SmallFarm, *words: str) -> list[dict[str, Any]]:
    environ = {**environ_of(supervisor.settings), "FARM_KEEP_INTERMEDIATES_S": "0"}
    done = run_farm_command(environ, "gc", "--json", *words)
    return [json.loads(line) for line in done.stdout.splitlines()]


def scratch_folders(supervisor: SmallFarm) -> list[Path]:
    return list((supervisor.settings.folder / "tmp").glob("farm-*"))


def test_gc_keeps_the_videos_of_finished_jobs_and_nothing_of_dead_workers(
    supervisor: SmallFarm, small: dict[str, Any], tmp_path: Path
) -> None:
    # Given a job whose worker was killed in the middle of a chunk
    farm = Farm(settings=supervisor.settings)
    with job_held_at("chunk_1_sampling_50", farm, small) as job:
        assert gc(supervisor) == [], "nothing of a live job"
        kill_children(supervisor.children["gpu"].pid)
    result = job.result()
    wait_for(lambda: farm.context.registry.jobs.live() == [])
    (left,) = scratch_folders(supervisor)
    old = left.stat().st_mtime - MIN_AGE_S - 1
    os.utime(left, (old, old))

    # When its garbage is collected
    stored = list(farm.context.store.keys(""))
    found = gc(supervisor, "--dry-run")
    assert list(farm.context.store.keys("")) == stored
    removed = gc(supervisor)

    # Then the video is left
    assert found == removed
    assert [each["reason"] for each in removed] == ["intermediate", "abandoned"]
    kept = {artifact.url.rpartition("/")[2] for artifact in result.artifacts}
    kept |= {keys.OUTPUT, "end.json", "request.json"}
    job_keys = farm.context.store.keys(f"jobs/{job.id}/")
    assert {key.rpartition("/")[2] for key in job_keys} == kept
    assert job.save(tmp_path / "video.mp4").stat().st_size == result.video.bytes
    assert scratch_folders(supervisor) == []
    assert gc(supervisor) == []
