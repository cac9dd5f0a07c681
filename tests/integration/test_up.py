"""A farm that is started, used and stopped by its commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from farm import Farm
from farm.settings import Settings
from tests.integration.test_metrics import three_free_ports

ROOT = Path(__file__).parents[2]


def start(home: Path, *words: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "FARM_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "farm", *words]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)


def read_until(process: subprocess.Popen[str], word: str) -> str:
    seen = ""
    while word not in seen:
        line = process.stdout.readline()
        assert line, f"it ended without saying {word!r}:\n{seen}"
        seen += line
    return seen


def left_behind(home: Path) -> list[str]:
    """Processes that were started for this home and still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environ, state = (
                (folder / "environ").read_bytes(),
                (folder / "stat").read_text().rsplit(")", 1)[1].split()[0],
            )
        except OSError:
            continue
        if f"FARM_HOME={home}".encode() in environ and state != "Z":
            found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def nothing_left_within(home: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while left_behind(home) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left_behind(home) == []


def test_the_demo_ends_with_a_video_and_leaves_no_process(tmp_path: Path) -> None:
    demo = start(tmp_path, "demo", "examples/single_image.json")

    said, _ = demo.communicate(timeout=240)

    assert demo.returncode == 0, said
    video = Path(said.splitlines()[-1])
    assert video == tmp_path / "demo.mp4"
    assert video.stat().st_size > 10_000
    assert "chunk 1 of 3, step 4 of 4" in said
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("when", ["starting", "chunk_0_"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_leaves_no_process_when_it_is_stopped(tmp_path: Path, when: str, number: signal.Signals) -> None:
    demo = start(tmp_path, "demo", "examples/single_image.json")
    read_until(demo, when)

    demo.send_signal(number)

    demo.communicate(timeout=60)
    assert demo.returncode != 0
    assert left_behind(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_a_killed_farm_takes_its_children_along(tmp_path: Path) -> None:
    up = start(tmp_path, "up")
    read_until(up, "is up")

    up.kill()
    up.communicate()

    assert nothing_left_within(tmp_path, 30)


def test_a_second_farm_in_the_same_home_is_refused(tmp_path: Path) -> None:
    first = start(tmp_path, "up")
    read_until(first, "is up")

    said, _ = start(tmp_path, "up").communicate(timeout=60)

    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert "E_UNREACHABLE: a farm is up in" in said
    assert left_behind(tmp_path) == []


def test_who_was_connected_goes_on_after_a_restart(tmp_path: Path, small: dict[str, Any]) -> None:
    farm = None
    for _ in range(2):
        up = start(tmp_path, "up")
        read_until(up, "is up")
        farm = farm or Farm(settings=Settings(home=tmp_path))
        assert farm.submit({**small, "max_frame_num": 21}).result(timeout_s=60).status == "success"
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=60)


def test_a_farm_without_its_weights_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_PRESET", "infinitetalk-480")
    up = start(tmp_path, "up")
    said = read_until(up, "note: no video can be made yet")
    up.send_signal(signal.SIGINT)
    up.communicate(timeout=60)
    assert f"{tmp_path}/weights/infinitetalk-480 has no transformer, vae" in said


def test_queued_jobs_go_on_after_a_restart(tmp_path: Path) -> None:
    up = start(tmp_path, "up")
    read_until(up, "is up")
    words = [
        "--request",
        "examples/single_image.json",
        "--sample-steps",
        "2",
        "--max-frame-num",
        "21",
        "--frame-num",
        "21",
    ]
    submitted = start(tmp_path, "submit", *words, "--motion-frame", "5")
    job_id = submitted.communicate(timeout=60)[0].strip()
    up.send_signal(signal.SIGINT)
    up.communicate(timeout=90)

    again = start(tmp_path, "up")
    read_until(again, "is up")
    watched, _ = start(tmp_path, "watch", job_id).communicate(timeout=120)

    again.send_signal(signal.SIGINT)
    again.communicate(timeout=90)
    assert "completed" in watched


def test_a_farm_that_is_up_serves_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = three_free_ports()
    monkeypatch.setenv("FARM_METRICS_ADDRESS", str(port))
    up = start(tmp_path, "up")

    said = read_until(up, "is up")
    served = [urllib.request.urlopen(f"http://127.0.0.1:{port + further}/metrics").read() for further in range(3)]

    up.send_signal(signal.SIGINT)
    up.communicate(timeout=60)
    assert f"metrics at http://127.0.0.1:{port}/metrics" in said
    assert [b"\nfarm_broker_up 1.0" in numbers for numbers in served] == [True, False, False]
    assert [b"\nfarm_gpu_busy_seconds_total 0.0" in numbers for numbers in served] == [False, True, True]
    assert left_behind(tmp_path) == []
