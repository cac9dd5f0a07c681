"""A job whose length only `embed` learns is refused there, before it has a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from farm.errors import InvalidInput
from farm.route import DOWNLOAD, EMBED
from tests.support.harness import Harness, open_harness
from tests.support.jobs import TWO_CHUNKS


@pytest.fixture
def harness(tmp_path: Path, portrait: Path, voice: Path) -> Harness:
    """A farm whose GPUs cost 1 a second."""
    harness = open_harness(tmp_path, portrait, voice)
    settings = harness.ctx.settings.model_copy(update={"gpu_price_per_h": 3600})
    harness.ctx = replace(harness.ctx, settings=settings)
    return harness


def test_a_job_that_costs_as_much_as_allowed_gets_a_gpu(harness):
    harness.enter(**TWO_CHUNKS, max_cost=100)
    harness.run(DOWNLOAD)
    assert harness.run(EMBED).kind == "generate"


def test_a_job_that_would_cost_more_ends_before_its_first_chunk(harness):
    harness.enter(**TWO_CHUNKS, max_cost=0.5)
    harness.run(DOWNLOAD)
    with pytest.raises(InvalidInput):
        harness.run(EMBED)
    assert harness.failure.code == "E_INPUT_VALIDATION"
    assert harness.failure.message.startswith("max_cost: got 0.5; the estimate is 0.3 s of video")


def test_a_worker_without_a_price_refuses_the_job(harness):
    settings = harness.ctx.settings.model_copy(update={"gpu_price_per_h": None})
    harness.ctx = replace(harness.ctx, settings=settings)
    harness.enter(**TWO_CHUNKS, max_cost=1)
    with pytest.raises(InvalidInput, match="max_cost: got 1, but this farm has no price"):
        harness.run(DOWNLOAD)
