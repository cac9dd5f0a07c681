"""A broker that loses everything while workers make videos, and what `farm recover` restores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farm import Farm
from farm.engine.advance import chunk_count
from farm.job import Result
from farm.queue.dead_letters import require_redis
from farm.registry.attempt_id import fence_of
from tests.integration.conftest import ENDLESS, ONE_CHUNK
from tests.support.commands import environ_of, run_farm_command
from tests.support.holding import job_held_at
from tests.support.jobs import resolved
from tests.support.small_farm import SmallFarm
from tests.support.videos import decoded_frames
from tests.support.waiting import wait_for_stage

Outcomes = dict[str, tuple[str, str]]
"""Outcome and reason by job."""


def lose_everything(farm: Farm) -> None:
    require_redis(farm.context.registry).redis.flushall()


def recover(supervisor: SmallFarm) -> Outcomes:
    done = run_farm_command(environ_of(supervisor.settings), "recover", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["job_id"]: (line["outcome"], line["reason"]) for line in lines}


def committed_attempts(farm: Farm, job_id: str) -> list[int]:
    """The fencing token of each committed chunk."""
    steps = farm.context.registry.steps
    chunks = chunk_count(farm.context, job_id)
    committed = [steps.committed(job_id, f"generate-{chunk:04d}") for chunk in range(chunks)]
    return [fence_of(chunk.attempt_id) for chunk in committed]


@pytest.fixture(scope="module")
def undisturbed(farm: Farm, small: dict[str, Any]) -> Result:
    return farm.submit(small).result()


@pytest.mark.parametrize(
    ("stage", "kept"),
    [
        ("validation_started", 0),
        ("embeddings_started", 0),
        ("chunk_2_sampling_50", 2),
        ("muxing_started", 4),
    ],
)
def test_a_video_is_resumed_after_its_last_finished_chunk_and_is_the_same(
    supervisor: SmallFarm,
    farm: Farm,
    small: dict[str, Any],
    undisturbed: Result,
    stage: str,
    kept: int,
) -> None:
    with job_held_at(stage, farm, small) as job:
        lose_everything(farm)
        outcomes = recover(supervisor)

    assert outcomes[job.id][0] == "resumed"
    assert outcomes[undisturbed.job_id] == ("already_ended", "success")
    result = job.result()
    assert decoded_frames(result.video.url) == decoded_frames(undisturbed.video.url)
    attempts = committed_attempts(farm, job.id)
    assert attempts[:kept] == [1] * kept, "what was finished is not made again"


def test_jobs_that_ended_before_the_loss_are_as_they_were(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any], tmp_path: Path
) -> None:
    finished = farm.submit({**small, **ONE_CHUNK})
    failed = farm.submit({**small, "cond_video": "http://127.0.0.1:1/a.png"})
    finished.wait()
    failed.wait()
    cancelled = farm.submit({**small, **ENDLESS})
    wait_for_stage(cancelled, "chunk_0_sampling")
    cancelled.cancel(by="a test")
    before = {job.id: job.status() for job in (finished, failed, cancelled)}

    lose_everything(farm)
    outcomes = recover(supervisor)

    assert [outcomes[job_id] for job_id in before] == [
        ("already_ended", "success"),
        ("already_ended", "error"),
        ("already_ended", "cancelled"),
    ]
    after = farm.submit({**small, **ONE_CHUNK})
    after.result()
    assert {job_id: farm.job(job_id).status() for job_id in before} == before
    video = finished.save(tmp_path / "video.mp4")
    assert video.stat().st_size == before[finished.id].result.video.bytes


def test_recovering_a_farm_that_has_lost_nothing_changes_nothing(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    with job_held_at("chunk_1_sampling_50", farm, small) as job:
        outcomes = [recover(supervisor) for _ in range(2)]

    assert {outcome for each in outcomes for outcome, _ in each.values()} == {"known"}
    job.result()
    assert set(committed_attempts(farm, job.id)) == {1}


def test_a_job_whose_record_is_unreadable_does_not_hold_up_the_others(
    farm: Farm, small: dict[str, Any]
) -> None:
    registry = farm.context.registry
    # The reaper goes through the jobs in this order.
    unreadable = "0" * 12
    waiting = "1" * 12
    for job_id in (unreadable, waiting):
        registry.entries.add(job_id, farm.upload(resolved({**small, **ONE_CHUNK})))
    require_redis(registry).redis.set(f"farm:job:{unreadable}", "{}")

    ended = farm.job(waiting).wait()

    registry.entries.forget(unreadable, [])
    assert ended.state == "success"
