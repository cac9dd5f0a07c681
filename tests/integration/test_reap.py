"""The reaper of a worker whose children are all busy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farm import Farm
from farm.route import DOWNLOAD
from tests.support.holding import job_held_at
from tests.support.jobs import REQUEST
from tests.support.small_farm import small_farm
from tests.support.waiting import wait_for


def test_an_orphaned_job_is_dispatched_while_a_step_holds_every_child(
    tmp_path: Path, small: dict[str, Any]
) -> None:
    with small_farm(tmp_path) as running:
        farm = Farm(settings=running.settings)
        # Given a worker whose only child is busy
        with job_held_at("embeddings_started", farm, small):
            # When a job has neither a lease nor a message
            registry = farm.context.registry
            registry.entries.add("orphan", REQUEST)
            # Then its step is dispatched nevertheless
            wait_for(lambda: registry.steps.record("orphan", DOWNLOAD.id).dispatches == 1)
