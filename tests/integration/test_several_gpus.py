"""A gpu worker of two ranks in a real farm: the same video, one chunk again when a rank is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from farm import Farm, Job
from farm.registry.attempt_id import fence_of
from tests.integration.conftest import ENDLESS, ONE_CHUNK
from tests.support.holding import hold, job_held_at
from tests.support.processes import children_of, is_running, processes_of
from tests.support.small_farm import SmallFarm, small_farm
from tests.support.videos import decoded_frames
from tests.support.waiting import wait_for, wait_for_stage

CHUNKS = 3


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallFarm]:
    """A farm whose gpu worker has two ranks, on the CPU."""
    home = tmp_path_factory.mktemp("home")
    with small_farm(home, device="cpu", gpus=2, grace_s=3600) as pair:
        yield pair
    assert processes_of(home) == []


@pytest.fixture(scope="module")
def paired(pair: SmallFarm) -> Farm:
    return Farm(settings=pair.settings)


@pytest.fixture(scope="module")
def request_fields(small: dict[str, Any]) -> dict[str, Any]:
    """Three chunks of four steps of two passes."""
    passes = {"sample_audio_guide_scale": 2.0}
    return {**small, **passes, "sample_steps": 4, "max_frame_num": 53}


@pytest.fixture(scope="module")
def frames_of_one_rank(farm: Farm, request_fields: dict[str, Any]) -> Any:
    return decoded_frames(farm.submit(request_fields).result().video.url)


def follower_of(pair: SmallFarm) -> int:
    """The process id of the second rank, a child of the worker's child."""
    (leader,) = children_of(pair.children["gpu"].pid)
    (follower,) = children_of(leader)
    return follower


def attempts(farm: Farm, job: Job) -> list[int]:
    """The number of the attempt that committed each chunk."""
    steps = farm.context.registry.steps
    committed = [steps.committed(job.id, f"generate-{chunk:04d}") for chunk in range(CHUNKS)]
    return [fence_of(chunk.attempt_id) for chunk in committed]


def test_two_ranks_make_the_video_of_one_bit_for_bit(
    paired: Farm, request_fields: dict[str, Any], frames_of_one_rank: Any
) -> None:
    result = paired.submit(request_fields).result()
    assert decoded_frames(result.video.url) == frames_of_one_rank


def test_a_killed_rank_costs_its_chunk_and_nothing_else(
    pair: SmallFarm, paired: Farm, request_fields: dict[str, Any], frames_of_one_rank: Any
) -> None:
    (leader,) = children_of(pair.children["gpu"].pid)
    with job_held_at("chunk_1_sampling_50", paired, request_fields) as job:
        os.kill(follower_of(pair), signal.SIGKILL)
        wait_for(lambda: not is_running(leader))

    result = job.result()

    assert attempts(paired, job) == [1, 2, 1]
    assert decoded_frames(result.video.url) == frames_of_one_rank


def test_a_cancelled_job_stops_both_ranks_which_make_the_next(
    pair: SmallFarm, paired: Farm, request_fields: dict[str, Any]
) -> None:
    job = paired.submit({**request_fields, **ENDLESS})
    wait_for_stage(job, "chunk_0_sampling_")
    follower = follower_of(pair)

    job.cancel()

    assert paired.submit({**request_fields, **ONE_CHUNK}).result().status == "success"
    assert follower_of(pair) == follower


def test_a_draining_worker_ends_both_ranks_and_leaves_its_chunk_uncounted(
    pair: SmallFarm, paired: Farm, request_fields: dict[str, Any], frames_of_one_rank: Any
) -> None:
    worker = pair.children["gpu"]
    follower = follower_of(pair)
    log = pair.log("gpu")
    with hold(pair.settings, "chunk_1_sampling_50") as release:
        job = paired.submit(request_fields)
        wait_for_stage(job, "chunk_1_sampling_50")
        before = len(log.read_text())
        worker.terminate()
        wait_for(lambda: "worker: Warm shutdown" in log.read_text()[before:])
        release()
    assert worker.wait() == 0
    wait_for(lambda: not is_running(follower))
    pair.restart_dead()

    result = job.result()

    assert attempts(paired, job) == [1, 2, 1]
    assert decoded_frames(result.video.url) == frames_of_one_rank
