"""A farm that serves two models, whose loops differ, with the same workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from farm import Farm
from farm.errors import InvalidInput
from farm.registry.attempt_id import fence_of
from tests.integration.conftest import ONE_CHUNK
from tests.support.holding import job_held_at
from tests.support.processes import kill_children
from tests.support.small_farm import SmallFarm, small_farm
from tests.support.videos import decoded_frames

FLASHTALK = {
    "model": "miniature-flashtalk",
    "frame_num": 21,
    "motion_frame": 5,
    "sample_steps": 2,
    "max_frame_num": 40,
}
"""Three chunks of 16 frames."""


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallFarm]:
    home = tmp_path_factory.mktemp("home")
    with small_farm(home, presets="miniature,miniature-flashtalk") as supervisor:
        yield supervisor


@pytest.fixture(scope="module")
def farm(supervisor: SmallFarm) -> Farm:
    """A client that has to learn from the workers which models there are."""
    other = {"presets": ("infinitetalk-480",)}
    return Farm(settings=supervisor.settings.model_copy(update=other))


@pytest.fixture
def flashtalk(small: dict[str, Any]) -> dict[str, Any]:
    return {**small, **FLASHTALK}


def test_the_models_of_the_workers_are_known_and_the_first_is_the_default(farm, small):
    assert farm.models() == ["miniature", "miniature-flashtalk"]
    assert farm.submit({**small, **ONE_CHUNK}).result().params["model"] == "miniature"


def test_a_job_for_a_model_that_no_worker_serves_is_refused(farm, small):
    with pytest.raises(InvalidInput, match="this farm: miniature, miniature-flashtalk"):
        farm.submit({**small, "model": "infinitetalk-480"})


def test_every_chunk_with_a_lead_in_shows_as_many_frames(farm, flashtalk):
    result = farm.submit(flashtalk).result()
    assert (result.params["model"], result.params["chunks"]) == ("miniature-flashtalk", 3)
    assert result.params["negative_prompt"] is None
    assert len(decoded_frames(result.video.url)) == 40


def test_a_video_of_either_model_is_the_same_though_its_worker_was_killed(
    supervisor, farm, small, flashtalk
):
    for fields in ({**small, "max_frame_num": 40}, flashtalk):
        # Given a video that nothing disturbed
        undisturbed = farm.submit(fields).result()
        # When the worker is killed in the second chunk of another
        with job_held_at("chunk_1_sampling_50", farm, fields) as job:
            kill_children(supervisor.children["gpu"].pid)
        # Then only that chunk is made again, and no pixel differs
        disturbed = job.result()
        steps = farm.context.registry.steps
        committed = [steps.committed(job.id, f"generate-{chunk:04d}") for chunk in range(3)]
        assert [fence_of(each.attempt_id) for each in committed] == [1, 2, 1]
        assert decoded_frames(disturbed.video.url) == decoded_frames(undisturbed.video.url)
