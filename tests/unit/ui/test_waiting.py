"""For what a job waits, as the page says it."""

from __future__ import annotations

import pytest

from farm.client import Farm, Job
from farm.client.estimate import Estimator
from farm.estimate import Pace
from farm.settings import Settings
from farm.ui.waiting import waiting
from tests.support.jobs import FIELDS


@pytest.mark.parametrize(
    ("stage", "on_cpu", "awaited"),
    [
        ("queued", False, "a worker"),
        ("embeddings_ok", False, "a GPU"),
        ("embeddings_ok", True, "a worker"),
    ],
)
def test_a_job_waits_for_a_gpu_only_if_one_makes_its_chunks(
    broker, tmp_path, monkeypatch, stage, on_cpu, awaited
):
    monkeypatch.setattr(Estimator, "pace", lambda self, model: Pace(1.0, on_cpu=on_cpu))
    monkeypatch.setattr(Job, "queue_position", lambda self: 1)
    farm = Farm(broker, settings=Settings(home=tmp_path))
    job = farm.submit(FIELDS)
    status = job.status().model_copy(update={"stage": stage})
    assert waiting(farm, job, status) == f"waiting for {awaited}: you are next"
