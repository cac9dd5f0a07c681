"""Estimates of jobs before they are submitted, and jobs that would cost too much."""

from __future__ import annotations

import base64
import tracemalloc
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from farm.client import Farm
from farm.errors import InvalidInput
from farm.estimate import Pace, chunk_s
from farm.registry.steps import EstimateUpdate
from farm.registry.workers import worker_name
from farm.settings import Settings
from tests.support.jobs import FIELDS, job_request
from tests.support.steps import acquire, commit
from tests.support.submissions import queued

CHUNK_S = chunk_s(job_request())


@pytest.fixture
def files(portrait: Path, voice: Path) -> dict[str, Any]:
    """A job of three chunks."""
    return {
        "prompt": "x",
        "cond_video": str(portrait),
        "cond_audio": {"person1": str(voice)},
        "mode": "streaming",
    }


@pytest.fixture
def priced(broker: str, tmp_path: Path) -> Farm:
    """A farm whose GPUs cost 1 a second."""
    return Farm(broker, settings=Settings(home=tmp_path / "home", gpu_price_per_h=3600))


def make_a_chunk(farm: Farm, pace: Pace) -> None:
    """Commits a step at that pace."""
    registry = farm.context.registry
    job = farm.submit(FIELDS)
    lease = acquire(registry, job_id=job.id)
    estimate = EstimateUpdate(remaining_gpu_s=0, pace=pace, model=job.request().model)
    commit(registry, lease, estimate=estimate)


def test_an_estimate_is_that_of_the_reference_card_before_the_first_chunk(farm, files):
    found = farm.estimate(files)
    assert (found.frames, found.chunks, found.pace) == (224, 3, str(Pace()))
    assert found.gpu_s == pytest.approx(3 * CHUNK_S)
    assert (found.cost, found.wait_s, found.time_s) == (None, None, None)
    assert farm.jobs() == []


def test_then_it_follows_the_pace_and_the_load_of_the_farm(priced, files):
    make_a_chunk(priced, Pace(0.1, cards=2))
    priced.submit(FIELDS)
    priced.context.registry.workers.heartbeat(worker_name("gpu", "host", 1))
    found = priced.estimate(files)
    assert found.pace == "this farm's pace"
    assert found.gpu_s == pytest.approx(0.2 * 3 * CHUNK_S)
    assert found.cost == pytest.approx(found.gpu_s)
    assert found.wait_s == pytest.approx(0.1 * CHUNK_S)
    assert found.time_s == pytest.approx(0.2 * 3 * CHUNK_S)


def test_a_farm_without_a_gpu_speaks_of_its_cpu(priced, files):
    make_a_chunk(priced, Pace(0.1, on_cpu=True))
    found = priced.estimate(files)
    assert found.on_cpu
    assert "seconds on the CPU at this farm's pace" in str(found)


def test_each_model_has_the_pace_of_its_own_last_chunk(priced, files):
    priced.context.registry.workers.announce(["miniature", "infinitetalk-480"])
    make_a_chunk(priced, Pace(0.1, cards=2))
    assert priced.estimate(files).gpu_s == pytest.approx(0.2 * 3 * CHUNK_S)
    other = priced.estimate(files, model="infinitetalk-480", quality="draft")
    assert (other.gpu_s, other.pace) == (pytest.approx(3 * CHUNK_S), str(Pace()))


def test_a_farm_that_does_not_answer_still_has_an_estimate(files, tmp_path):
    farm = Farm("redis://127.0.0.1:1/0", settings=Settings(home=tmp_path))
    assert farm.estimate(files).chunks == 3


def test_the_length_of_words_is_estimated_and_that_behind_a_url_is_unknown(farm, files):
    del files["cond_audio"]
    found = farm.estimate(files, tts_audio={"text": "a" * 180})
    assert (found.frames, found.length) == (250, "from the text")
    assert farm.estimate(FIELDS).length == "unknown"


def test_an_estimate_makes_the_checks_of_a_submission(farm, files):
    with pytest.raises(InvalidInput, match="webhooks are disabled"):
        farm.estimate(files, webhook="https://example.org/done")


def test_a_job_that_would_cost_more_than_its_caller_allows_gets_no_id(priced, files, broker):
    for ask in (priced.submit, priced.estimate):
        with pytest.raises(InvalidInput, match="max_cost: got 30; the estimate is"):
            ask({**files, "max_cost": 30})
    assert (priced.jobs(), queued(broker)) == ([], 0)
    assert priced.submit({**files, "max_cost": 50}).status().state == "queued"


def test_a_job_of_unknown_length_is_accepted_whatever_it_may_cost(priced):
    assert priced.submit({**FIELDS, "max_cost": 0.01}).status().state == "queued"


def test_the_first_job_of_an_idempotency_key_is_found_again_whatever_it_would_cost_now(
    priced, files
):
    job = priced.submit({**files, "idempotency_key": "k", "max_cost": 1100})
    make_a_chunk(priced, Pace(2.0))
    assert priced.submit({**files, "idempotency_key": "k", "max_cost": 1}).id == job.id


def test_a_farm_without_a_price_refuses_to_keep_a_limit(farm, files):
    with pytest.raises(
        InvalidInput,
        match=r"no price of a GPU \(FARM_GPU_PRICE_PER_H.*; allowed: a request without it",
    ):
        farm.submit({**files, "max_cost": 1})


def test_embedded_files_are_not_cached(farm: Farm, voice: Path) -> None:
    def estimate_with_face(number: int) -> None:
        file = BytesIO()
        noise = np.random.default_rng(number).integers(0, 256, (600, 600, 3), np.uint8)
        Image.fromarray(noise).save(file, "PNG", compress_level=0)
        face = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
        farm.estimate(prompt="x", cond_video=face, cond_audio={"person1": str(voice)})

    estimate_with_face(0)
    tracemalloc.start()
    for number in range(1, 11):
        estimate_with_face(number)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1e6
