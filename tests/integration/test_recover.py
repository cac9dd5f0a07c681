"""A broker that loses everything while real workers make videos, and what `farm recover` makes of that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest
import redis

from farm import Farm
from farm.job import JobRequest
from farm.local.supervisor import Supervisor
from farm.store import keys
from tests.integration.test_farm import eventually, local

Outcomes = dict[str, tuple[str, str]]


def lose_everything(farm: Farm) -> None:
    with redis.Redis.from_url(farm.context.settings.broker_address) as client:
        client.flushall()


def recover(supervisor: Supervisor) -> Outcomes:
    """What the command says became of each job."""
    settings = supervisor.settings
    environ = {**os.environ, "FARM_HOME": str(settings.home), "FARM_BROKER_URL": str(settings.broker_url)}
    command = [sys.executable, "-m", "farm", "recover", "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["job_id"]: (line["outcome"], line["reason"]) for line in lines}


def frames(url: str) -> list[bytes]:
    with av.open(str(local(url))) as video:
        return [frame.to_ndarray().tobytes() for frame in video.decode(video=0)]


def attempts(farm: Farm, job_id: str) -> list[str]:
    """Which attempts made the chunks that count."""
    chunks = farm.context.registry.steps.committed(job_id, "embed")["chunks"]
    segments = [farm.context.registry.steps.committed(job_id, f"generate-{chunk:04d}")["segment"] for chunk in range(chunks)]
    return [key.split("/")[3] for key in segments]


@pytest.mark.parametrize("at", ["", "embeddings_started", "chunk_2_", "muxing_started"])
def test_a_video_goes_on_from_its_last_finished_chunk_and_is_the_same(
    supervisor: Supervisor, farm: Farm, small: dict[str, Any], at: str
) -> None:
    unbroken = farm.submit(small).result(timeout_s=240)
    job = farm.submit(small)
    # A look now and then would miss what is over in no time.
    next(event for event in job.events() if event.stage.startswith(at))
    kept = [key for key in farm.context.store.keys(f"jobs/{job.id}/generate-") if key.endswith(keys.OUTPUT)]

    lose_everything(farm)
    outcomes = recover(supervisor)

    assert outcomes[job.id][0] == "goes on"
    assert outcomes[unbroken.job_id] == ("had ended", "success")
    result = job.result(timeout_s=60)
    assert frames(result.video.url) == frames(unbroken.video.url)
    assert attempts(farm, job.id)[: len(kept)] == ["0001"] * len(kept), "what was finished is not made again"
    assert len(kept) >= (2 if at in ("chunk_2_", "muxing_started") else 0)


def test_jobs_that_ended_before_the_loss_are_as_they_were(
    supervisor: Supervisor, farm: Farm, small: dict[str, Any], tmp_path: Path
) -> None:
    finished = farm.submit({**small, "max_frame_num": 21})
    finished.wait(timeout_s=120)
    failed = farm.submit({**small, "cond_video": "http://127.0.0.1:1/a.png"})
    failed.wait(timeout_s=60)
    cancelled = farm.submit({**small, "sample_steps": 1000})
    eventually(lambda: "sampling" in cancelled.status().stage)
    cancelled.cancel(by="a test")
    before = {job.id: job.status() for job in (finished, failed, cancelled)}

    lose_everything(farm)
    outcomes = recover(supervisor)

    assert [outcomes[job_id] for job_id in before] == [
        ("had ended", "success"),
        ("had ended", "error"),
        ("had ended", "cancelled"),
    ]
    after = farm.submit({**small, "max_frame_num": 21})
    after.result(timeout_s=60)
    assert {job_id: farm.job(job_id).status() for job_id in before} == before
    assert finished.save(tmp_path / "video.mp4").stat().st_size == before[finished.id].result.video.bytes


def test_recovering_a_farm_that_has_lost_nothing_disturbs_nobody(
    supervisor: Supervisor, farm: Farm, small: dict[str, Any]
) -> None:
    job = farm.submit(small)
    eventually(lambda: job.status().stage.startswith("chunk_1_"))

    outcomes = [recover(supervisor) for _ in range(2)]

    assert {outcome for each in outcomes for outcome, _ in each.values()} == {"known"}
    job.result(timeout_s=60)
    assert set(attempts(farm, job.id)) == {"0001"}


def test_a_job_whose_record_cannot_be_read_keeps_no_other_from_going_on(farm: Farm, small: dict[str, Any]) -> None:
    registry = farm.context.registry
    unreadable, waiting = "0" * 12, "1" * 12  # in the order of the reaper's round
    for job_id in (unreadable, waiting):
        registry.jobs.add(job_id, farm.upload(JobRequest.parse({**small, "max_frame_num": 21})))
    with redis.Redis.from_url(farm.context.settings.broker_address) as client:
        client.set(f"farm:job:{unreadable}", "{}")

    ended = farm.job(waiting).wait(timeout_s=60)

    registry.jobs.forget(unreadable, [])
    assert ended.state == "success"
