"""Watching a video that real workers are still making."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av

from farm import Farm
from farm.local.supervisor import Supervisor
from farm.store import keys
from tests.integration.test_farm import children_of, eventually
from tests.support.player import play, served


def text(farm: Farm, job_id: str) -> str:
    return farm.context.store.get(keys.playlist(job_id)).decode()


def test_a_player_that_joins_at_the_first_chunk_sees_all_of_the_video(farm: Farm, small: Any) -> None:
    job = farm.submit(small)
    path = Path(urlsplit(eventually(job.playlist)).path)
    assert "ENDLIST" not in text(farm, job.id)
    assert not job.status().ended

    with served(path.parent) as address, ThreadPoolExecutor() as pool:
        watching = pool.submit(play, f"{address}/{path.name}")
        result = job.result(timeout_s=240)
        played = watching.result(timeout=30)

    frames = result.params["frames"]
    assert played.times == list(range(frames))
    assert abs(played.sound.shape[1] - 1920 * frames) < 1024
    with av.open(urlsplit(result.video.url).path) as video:
        assert [frame.to_ndarray().tobytes() for frame in video.decode(video=0)] == played.pictures


def test_a_chunk_whose_worker_was_killed_appears_once(supervisor: Supervisor, farm: Farm, small: dict[str, Any]) -> None:
    job = farm.submit(small)
    eventually(lambda: job.status().stage.startswith("chunk_1_"))

    for child in children_of(supervisor.children["gpu"].pid):
        os.kill(child, signal.SIGKILL)

    result = job.result(timeout_s=60)
    names = [line for line in text(farm, job.id).splitlines() if line.endswith(".m4s")]
    assert names[:3] == [
        f"generate-{chunk:04d}/{made}/segment.m4s" for chunk, made in enumerate(["0001", "0002", "0001"])
    ]
    assert play(urlsplit(job.playlist() or "").path).times == list(range(result.params["frames"]))


def test_a_job_that_is_cancelled_closes_what_is_watched(farm: Farm, small: dict[str, Any]) -> None:
    job = farm.submit(small)
    eventually(lambda: job.status().stage.startswith("chunk_1_"))

    job.cancel(by="a test")

    assert text(farm, job.id).endswith("#EXT-X-ENDLIST\n")
    assert play(urlsplit(job.playlist() or "").path).times[:21] == list(range(21))
