"""Jobs through real processes: what a user sees when things go well, go wrong, and when workers die."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import av
import numpy as np
import pytest
from PIL import Image

from farm import Farm
from farm.errors import DownloadFailed, InvalidInput
from farm.job import STAGES
from farm.local.supervisor import Supervisor
from farm.media.audio import write_wav
from farm.media.probe import expect_audio
from farm.queue.inspect import QUEUE_KEYS, parse_message
from farm.registry.redis import RedisBackend


def local(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, exposition=True, check=False)
    return [int(line) for line in found.stdout.split()]


def eventually(what: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


def test_a_job_of_many_chunks_becomes_a_video_with_its_sound(farm: Farm, small: dict[str, Any], voice: Path) -> None:
    job = farm.submit(small)

    result = job.result(timeout_s=240)

    seconds = expect_audio(voice, field="voice").seconds
    with av.open(str(local(result.video.url))) as video:
        picture, sound = video.streams.video[0], video.streams.audio[0]
        frames = sum(1 for _ in video.decode(picture))
        assert (picture.codec_context.name, sound.codec_context.name) == ("h264", "aac")
        assert picture.average_rate == 25
        assert sound.rate == 22050, "the original sound, not the 16 kHz that the encoder hears"
        assert abs(frames / 25 - seconds) <= 1 / 25
    assert result.params["chunks"] == farm.context.registry.steps.committed(job.id, "embed")["chunks"] > 2
    assert {artifact.type for artifact in result.artifacts} == {"video", "thumbnail", "manifest"}
    assert Image.open(local(result.video.thumbnail_url)).format == "JPEG"


def test_progress_names_every_stage_and_never_falls(farm: Farm, small: dict[str, Any]) -> None:
    job = farm.submit(small)

    events = list(job.events())

    assert [event.stage for event in events if event.stage in STAGES] == list(STAGES)
    assert [event.pct for event in events] == sorted(event.pct for event in events)
    begun = [event for event in events if event.stage.endswith("_pre")]
    assert [event.details["chunk"] for event in begun] == list(range(begun[0].details["chunks"]))
    sampling = [event for event in events if "_sampling_" in event.stage]
    assert len(sampling) == len(begun) * 3
    assert all({"chunk", "chunks", "step", "steps"} <= event.details.keys() for event in sampling)


def test_each_chunk_is_a_message_of_its_own_with_an_id_that_says_which(supervisor: Supervisor, farm: Farm, small: Any) -> None:
    job = farm.submit(small)
    job.result(timeout_s=240)

    log = supervisor.log("gpu").read_text()

    chunks = farm.context.registry.steps.committed(job.id, "embed")["chunks"]
    for chunk in range(chunks):
        assert log.count(f'"task_id": "{job.id}-c{chunk:04d}-a1"') == 1
    assert f"{job.id}-c0" not in supervisor.log("cpu").read_text()


def test_words_are_spoken_and_a_video_is_a_source_too(farm: Farm, small: dict[str, Any], tmp_path: Path) -> None:
    source = farm.submit({**small, "max_frame_num": 25}).result(timeout_s=240).video.url
    spoken = {
        **small,
        "cond_audio": None,
        "tts_audio": {"text": "hello there, how are you"},
        "cond_video": str(local(source)),
    }

    result = farm.submit(spoken).result(timeout_s=240)

    assert result.params["frames"] > 21


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files that are not what they should be, by the name of the test case."""
    tmp_path = tmp_path_factory.mktemp("sources")
    header_only, silent = tmp_path / "header.wav", tmp_path / "empty.wav"
    write_wav(header_only, np.zeros((1, 0), "float32"), 16000)
    silent.write_bytes(b"")
    corrupt, exposition, huge = tmp_path / "corrupt.png", tmp_path / "text.wav", tmp_path / "huge.png"
    corrupt.write_bytes(b"\x89PNG\r\n\x1a\n" + os.urandom(4000))
    exposition.write_text("this is no sound at all\n" * 50)
    Image.new("1", (40_000, 40_000)).save(huge)
    return {
        "corrupt": str(corrupt),
        "text": str(exposition),
        "huge": str(huge),
        "header": str(header_only),
        "empty": str(silent),
    }


@pytest.mark.parametrize(
    ("field", "source", "code", "says"),
    [
        ("cond_video", "corrupt", "E_INPUT_VALIDATION", "cond_video: the image is broken"),
        ("cond_video", "huge", "E_INPUT_VALIDATION", "40000 x 40000"),
        ("cond_video", "empty", "E_INPUT_VALIDATION", "cond_video: the file is empty (0 bytes)"),
        ("cond_video", "text", "E_DOWNLOAD_FAILED", "cond_video: the file holds text"),
        ("cond_audio", "text", "E_DOWNLOAD_FAILED", "cond_audio.person1: the file holds text, not sound"),
        ("cond_audio", "header", "E_INPUT_VALIDATION", "cond_audio.person1: the file has no audio"),
        ("cond_audio", "empty", "E_INPUT_VALIDATION", "cond_audio.person1: the file is empty"),
        ("cond_video", "http://127.0.0.1:1/a.png", "E_DOWNLOAD_FAILED", "cond_video"),
        ("cond_video", "http://169.254.169.254/latest", "E_DOWNLOAD_FAILED", "169.254.169.254"),
        ("cond_video", "store://jobs/other/request.json", "E_INPUT_VALIDATION", "cond_video"),
    ],
)
def test_unusable_media_end_the_job_with_a_reason(
    farm: Farm, small: dict[str, Any], sources: dict[str, str], field: str, source: str, code: str, says: str
) -> None:
    given = sources.get(source, source)
    job = farm.submit({**small, field: {"person1": given} if field == "cond_audio" else given})

    status = job.wait(timeout_s=60)

    assert (status.state, status.result.error.code) == ("error", code)
    assert says in status.result.error.message
    with pytest.raises((InvalidInput, DownloadFailed), match="cond_"):
        job.result()


def test_the_next_job_runs_after_one_that_failed(farm: Farm, small: dict[str, Any], sources: dict[str, str]) -> None:
    failed = farm.submit({**small, "cond_video": sources["corrupt"]})
    good = farm.submit({**small, "max_frame_num": 21})

    assert good.result(timeout_s=120).status == "success"
    assert failed.status().state == "error"


def test_cancel_stops_a_running_denoise_loop(farm: Farm, small: dict[str, Any]) -> None:
    job = farm.submit({**small, "sample_steps": 1000})
    eventually(lambda: "sampling" in job.status().stage)

    assert job.cancel(by="a test")

    assert job.status().state == "cancelled"
    assert "cancelled by a test at chunk_0_sampling" in job.status().result.error.message
    after = farm.submit({**small, "max_frame_num": 21})
    assert after.result(timeout_s=60).status == "success", "the worker is free long before 1000 steps are over"


def test_a_killed_gpu_child_costs_only_the_chunk_in_hand(supervisor: Supervisor, farm: Farm, small: dict[str, Any]) -> None:
    job = farm.submit(small)
    eventually(lambda: job.status().stage.startswith("chunk_1_"))

    for child in children_of(supervisor.children["gpu"].pid):
        os.kill(child, signal.SIGKILL)

    assert job.result(timeout_s=60).status == "success"
    segments = [farm.context.registry.steps.committed(job.id, f"generate-{chunk:04d}")["segment"] for chunk in range(3)]
    assert [key.split("/")[3] for key in segments] == ["0001", "0002", "0001"], "attempts that made the chunks"


def test_a_killed_gpu_worker_is_started_again_by_the_house(supervisor: Supervisor, farm: Farm, small: dict[str, Any]) -> None:
    job = farm.submit(small)
    eventually(lambda: job.status().stage.startswith("chunk_1_"))

    os.killpg(supervisor.children["gpu"].pid, signal.SIGKILL)
    supervisor.children["gpu"].wait()
    supervisor.replace_dead(lambda _: None)

    assert job.result(timeout_s=60).status == "success"


def test_a_message_that_went_with_a_dying_worker_is_sent_again(supervisor: Supervisor, farm: Farm, small: dict[str, Any]) -> None:
    os.killpg(supervisor.children["gpu"].pid, signal.SIGKILL)
    supervisor.children["gpu"].wait()
    job = farm.submit({**small, "max_frame_num": 21})
    backend = farm.context.registry.backend
    assert isinstance(backend, RedisBackend)
    taken = eventually(lambda: backend.redis.rpop(QUEUE_KEYS["gpu", "normal"]))
    assert parse_message(taken) == (job.id, "generate-0000")

    supervisor.replace_dead(lambda _: None)

    assert job.result(timeout_s=60).status == "success"


def test_a_child_that_outlives_its_worker_takes_no_message(supervisor: Supervisor, farm: Farm, small: dict[str, Any]) -> None:
    worker = supervisor.children["gpu"]
    before = children_of(worker.pid)
    for child in before:
        os.kill(child, signal.SIGKILL)
    (child,) = eventually(lambda: [each for each in children_of(worker.pid) if each not in before])
    farm.submit({**small, "max_frame_num": 21}).result(timeout_s=60)

    held = {process: connections(process) for process in (worker.pid, child)}

    assert held[worker.pid]
    assert held[worker.pid].isdisjoint(held[child])


def connections(process: int) -> set[str]:
    """The system's names of a process's TCP sockets."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    files = Path(f"/proc/{process}/fd").iterdir()
    return {f"socket:[{row[9]}]" for row in rows} & {os.readlink(file) for file in files if file.is_symlink()}


def test_an_unreachable_broker_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
    environ = {**os.environ, "FARM_BROKER_URL": url, "FARM_HOME": str(tmp_path)}

    done = subprocess.run([sys.executable, "-m", "farm", "jobs"], env=environ, capture_output=True, exposition=True)

    assert done.returncode == 3
    assert done.stderr.startswith("E_UNREACHABLE: no broker answers at 127.0.0.1")
    assert len(done.stderr.splitlines()) == 1
