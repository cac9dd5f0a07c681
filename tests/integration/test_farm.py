"""Jobs through real processes: what users see when things go well, go wrong, and workers die."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from farm import Farm, Job
from farm.engine.advance import chunk_count
from farm.errors import DownloadFailed, InvalidInput
from farm.job import STAGES
from farm.media.audio import write_wav
from farm.media.probe import expect_audio
from farm.queue.brokers.redis import QUEUE_KEYS, parse_message
from farm.queue.dead_letters import require_redis
from farm.registry.attempt_id import fence_of
from farm.store import keys
from tests.integration.conftest import ENDLESS, ONE_CHUNK
from tests.support.commands import run_farm_command
from tests.support.holding import job_held_at
from tests.support.ports import free_port
from tests.support.processes import children_of, kill_children, kill_group, open_files, tcp_sockets
from tests.support.small_farm import SmallFarm
from tests.support.videos import local_path
from tests.support.waiting import wait_for, wait_for_stage


@pytest.fixture(scope="module")
def finished(farm: Farm, small: dict[str, Any]) -> Job:
    """A small job that nothing disturbed."""
    job = farm.submit(small)
    job.result()
    return job


def test_a_job_of_many_chunks_becomes_a_video_with_its_audio(
    farm: Farm, finished: Job, voice: Path
) -> None:
    result = finished.result()

    seconds = expect_audio(voice, field="voice").seconds
    with av.open(str(local_path(result.video.url))) as video:
        picture = video.streams.video[0]
        audio = video.streams.audio[0]
        frames = sum(1 for _ in video.decode(picture))
        assert (picture.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert picture.average_rate == 25
        assert audio.rate == 22050, "the original recording, not the encoder's 16 kHz"
        assert abs(frames / 25 - seconds) <= 1 / 25
    assert result.params["chunks"] == chunk_count(farm.context, finished.id) > 2
    assert {artifact.type for artifact in result.artifacts} == {"video", "thumbnail", "manifest"}
    assert Image.open(local_path(result.video.thumbnail_url)).format == "JPEG"


def test_progress_names_every_stage_and_never_falls(finished: Job) -> None:
    events = list(finished.events())

    assert [event.stage for event in events if event.stage in STAGES] == list(STAGES)
    assert [event.pct for event in events] == sorted(event.pct for event in events)
    begun = [event for event in events if event.stage.endswith("_pre")]
    assert [event.details["chunk"] for event in begun] == list(range(begun[0].details["chunks"]))
    sampling = [event for event in events if "_sampling_" in event.stage]
    assert len(sampling) == len(begun) * 3
    assert all({"chunk", "chunks", "step", "steps"} <= event.details.keys() for event in sampling)


def test_each_chunk_is_a_message_whose_id_names_it(
    supervisor: SmallFarm, farm: Farm, finished: Job
) -> None:
    log = supervisor.log("gpu").read_text()

    chunks = chunk_count(farm.context, finished.id)
    for chunk in range(chunks):
        assert log.count(f'"task_id": "{finished.id}-c{chunk:04d}-a1"') == 1
    assert f"{finished.id}-c0" not in supervisor.log("cpu").read_text()


def test_text_is_spoken_and_a_video_is_a_source_too(
    farm: Farm, finished: Job, small: dict[str, Any]
) -> None:
    spoken = {
        **small,
        "cond_audio": None,
        "tts_audio": {"text": "hello there, how are you"},
        "cond_video": str(local_path(finished.result().video.url)),
    }

    result = farm.submit(spoken).result()

    assert result.params["frames"] > 21


@pytest.fixture(scope="module")
def sources(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Uploads that are not what they should be, by the name of the test case.

    Another client may have uploaded them: this one would refuse them at submission.
    """
    folder = tmp_path_factory.mktemp("sources")
    paths = {
        "corrupt": folder / "corrupt.png",
        "text": folder / "text.wav",
        "huge": folder / "huge.png",
        "header": folder / "header.wav",
        "empty": folder / "empty.wav",
    }
    paths["corrupt"].write_bytes(b"\x89PNG\r\n\x1a\n" + os.urandom(4000))
    paths["text"].write_text("this is not audio at all\n" * 50)
    paths["huge"].write_bytes(png_header(width=40_000, height=40_000))
    write_wav(paths["header"], np.zeros((1, 0), "float32"), 16000)
    paths["empty"].touch()
    for path in paths.values():
        farm.context.store.put(keys.upload(path), path)
    return {name: keys.SCHEME + keys.upload(path) for name, path in paths.items()}


def png_header(*, width: int, height: int) -> bytes:
    """A black and white PNG that ends where its pixels would begin."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    length = struct.pack(">I", len(chunk) - 4)
    checksum = struct.pack(">I", zlib.crc32(chunk))
    pixels = struct.pack(">I", 0) + b"IDAT"
    return b"\x89PNG\r\n\x1a\n" + length + chunk + checksum + pixels


@pytest.mark.parametrize(
    ("field", "source", "code", "message"),
    [
        ("cond_video", "corrupt", "E_INPUT_VALIDATION", "cond_video: the image is broken"),
        ("cond_video", "huge", "E_INPUT_VALIDATION", "40000 x 40000"),
        ("cond_video", "empty", "E_INPUT_VALIDATION", "cond_video: the file is empty (0 bytes)"),
        ("cond_video", "text", "E_DOWNLOAD_FAILED", "cond_video: the file holds text"),
        (
            "cond_audio",
            "text",
            "E_DOWNLOAD_FAILED",
            "cond_audio.person1: the file holds text, not audio",
        ),
        (
            "cond_audio",
            "header",
            "E_INPUT_VALIDATION",
            "cond_audio.person1: the file has no audio",
        ),
        ("cond_audio", "empty", "E_INPUT_VALIDATION", "cond_audio.person1: the file is empty"),
        ("cond_video", "http://127.0.0.1:1/a.png", "E_DOWNLOAD_FAILED", "cond_video"),
        ("cond_video", "http://169.254.169.254/latest", "E_DOWNLOAD_FAILED", "169.254.169.254"),
        ("cond_video", "store://jobs/other/request.json", "E_INPUT_VALIDATION", "cond_video"),
    ],
)
def test_unusable_media_end_the_job_with_a_reason(
    farm: Farm,
    small: dict[str, Any],
    sources: dict[str, str],
    field: str,
    source: str,
    code: str,
    message: str,
) -> None:
    given = sources.get(source, source)
    job = farm.submit({**small, field: {"person1": given} if field == "cond_audio" else given})

    status = job.wait()

    assert (status.state, status.result.error.code) == ("error", code)
    assert message in status.result.error.message
    with pytest.raises((InvalidInput, DownloadFailed), match="cond_"):
        job.result()


def test_the_next_job_runs_after_one_that_failed(
    farm: Farm, small: dict[str, Any], sources: dict[str, str]
) -> None:
    failed = farm.submit({**small, "cond_video": sources["corrupt"]})
    good = farm.submit({**small, **ONE_CHUNK})

    assert good.result().status == "success"
    assert failed.status().state == "error"


def test_cancel_stops_a_running_denoise_loop(farm: Farm, small: dict[str, Any]) -> None:
    job = farm.submit({**small, **ENDLESS})
    wait_for_stage(job, "chunk_0_sampling")

    assert job.cancel(by="a test")

    assert job.status().state == "cancelled"
    assert "cancelled by a test at chunk_0_sampling" in job.status().result.error.message
    after = farm.submit({**small, **ONE_CHUNK})
    assert after.result().status == "success"
    reached = [event.stage for event in job.events()]
    assert "chunk_0_sampling_100" not in reached, "the worker did not sample to the end"


def test_a_killed_gpu_child_costs_only_its_chunk(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    with job_held_at("chunk_1_sampling_50", farm, small) as job:
        kill_children(supervisor.children["gpu"].pid)

    assert job.result().status == "success"
    steps = farm.context.registry.steps
    committed = [steps.committed(job.id, f"generate-{chunk:04d}") for chunk in range(3)]
    assert [fence_of(chunk.attempt_id) for chunk in committed] == [1, 2, 1]


def test_a_killed_gpu_worker_is_started_again(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    with job_held_at("chunk_1_sampling_50", farm, small) as job:
        kill_group(supervisor.children["gpu"])

    supervisor.restart_dead()

    assert job.result().status == "success"


def test_a_message_that_was_lost_with_its_worker_is_sent_again(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    kill_group(supervisor.children["gpu"])
    job = farm.submit({**small, **ONE_CHUNK})
    broker = require_redis(farm.context.registry)
    message = wait_for(lambda: broker.redis.rpop(broker.key(QUEUE_KEYS["gpu", "normal"])))
    assert parse_message(message) == (job.id, "generate-0000")

    supervisor.restart_dead()

    assert job.result().status == "success"


def test_a_child_that_outlives_its_worker_receives_no_message(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    worker = supervisor.children["gpu"]
    before = children_of(worker.pid)
    kill_children(worker.pid)
    (child,) = wait_for(lambda: [each for each in children_of(worker.pid) if each not in before])
    farm.submit({**small, **ONE_CHUNK}).result()

    connections = {f"socket:[{row[9]}]" for row in tcp_sockets()}
    of_worker = open_files(worker.pid) & connections
    of_child = open_files(child) & connections

    assert of_worker
    assert of_worker.isdisjoint(of_child)


def test_no_worker_listens_for_remote_control(farm: Farm) -> None:
    client = require_redis(farm.context.registry).redis
    assert len(farm.context.registry.workers.alive()) >= 2
    assert list(client.scan_iter("*pidbox*")) == []


def test_an_unreachable_broker_is_reported_in_one_line(tmp_path: Path) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"

    done = run_farm_command(
        {"FARM_BROKER_URL": url, "FARM_HOME": str(tmp_path)}, "jobs", check=False
    )

    assert done.returncode == 3
    assert done.stderr.startswith("E_UNREACHABLE: no broker answers at 127.0.0.1")
    assert len(done.stderr.splitlines()) == 1
