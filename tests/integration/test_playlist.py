"""A video that is watched while workers make it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from farm import Farm
from farm.store import keys
from tests.support.attempts import attempt, foreseeable
from tests.support.holding import job_held_at
from tests.support.player import play, serve_folder
from tests.support.processes import kill_children
from tests.support.small_farm import SmallFarm
from tests.support.videos import decoded_frames, local_path


def playlist(farm: Farm, job_id: str) -> str:
    return farm.context.store.get(keys.playlist(job_id)).decode()


def test_a_player_that_starts_at_the_first_chunk_sees_the_whole_video(
    farm: Farm, small: dict[str, Any]
) -> None:
    with ThreadPoolExecutor() as pool, ExitStack() as serving:
        with job_held_at("chunk_1_sampling_50", farm, small) as job:
            path = local_path(job.playlist() or "")
            assert "ENDLIST" not in playlist(farm, job.id)
            address = serving.enter_context(serve_folder(path.parent))
            watching = pool.submit(play, f"{address}/{path.name}")
        result = job.result()
        played = watching.result()

    frames = result.params["frames"]
    assert played.times == list(range(frames))
    assert abs(played.audio.shape[1] - 1920 * frames) < 1024
    assert decoded_frames(result.video.url) == played.frames


def test_a_chunk_whose_worker_was_killed_appears_once(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    with job_held_at("chunk_1_sampling_50", farm, small) as job:
        kill_children(supervisor.children["gpu"].pid)

    result = job.result()
    text = foreseeable(playlist(farm, job.id))
    segments = [line for line in text.splitlines() if line.endswith(".m4s")]
    assert segments[:3] == [
        f"generate-0000/{attempt(1)}/segment.m4s",
        f"generate-0001/{attempt(2)}/segment.m4s",
        f"generate-0002/{attempt(1)}/segment.m4s",
    ]
    played = play(str(local_path(job.playlist() or "")))
    assert played.times == list(range(result.params["frames"]))


def test_cancelling_a_job_closes_its_playlist(farm: Farm, small: dict[str, Any]) -> None:
    with job_held_at("chunk_1_sampling_50", farm, small) as job:
        job.cancel(by="a test")

    assert playlist(farm, job.id).endswith("#EXT-X-ENDLIST\n")
    assert play(str(local_path(job.playlist() or ""))).times == list(range(21))
