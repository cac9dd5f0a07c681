"""Waiting for events instead of for seconds: only pytest's own timeout ends a wait in vain."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from farm import Job

Value = TypeVar("Value")

POLL_INTERVAL_S = 0.02


def wait_for(condition: Callable[[], Value]) -> Value:
    """The first true value of a condition."""
    while True:
        value = condition()
        if value:
            return value
        time.sleep(POLL_INTERVAL_S)


def wait_for_stage(job: Job, stage: str) -> None:
    """Returns once a job has reached a stage, given by how its name begins, or has passed it.

    Reads every event, so no stage is too short to be seen; AssertionError if the job ended first.
    """
    for event in job.events():
        if event.stage.startswith(stage):
            return
    raise AssertionError(f"the job ended before it came to {stage}: {job.status()}")
