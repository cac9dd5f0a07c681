"""A farm that is started, used and stopped by its commands."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from farm import Farm
from farm.settings import Settings
from tests.integration.conftest import ONE_CHUNK
from tests.support.commands import read_until, run_farm_command, start_farm_command
from tests.support.ports import adjacent_free_ports
from tests.support.processes import processes_of
from tests.support.waiting import wait_for


def start(home: Path, *words: str, **settings: str) -> subprocess.Popen[str]:
    """`farm WORDS` in a home folder; `settings` are further FARM_ variables."""
    named = {f"FARM_{name.upper()}": value for name, value in settings.items()}
    environ = {"FARM_HOME": str(home), "FARM_CPU_CONCURRENCY": "1", **named}
    return start_farm_command(environ, *words, stderr=subprocess.STDOUT)


@contextmanager
def running_farm(home: Path, **settings: str) -> Iterator[str]:
    """What `farm up` printed until it was up; Ctrl-C ends it with the block."""
    up = start(home, "up", **settings)
    try:
        yield read_until(up, "is up")
    finally:
        up.send_signal(signal.SIGINT)
        up.communicate()
    assert up.returncode == 0


@pytest.fixture
def request_file(small: dict[str, Any], tmp_path: Path) -> str:
    """A request of three chunks."""
    path = tmp_path / "request.json"
    path.write_text(json.dumps({**small, "max_frame_num": 53}))
    return str(path)


def test_the_demo_ends_with_a_video_and_leaves_no_process(
    tmp_path: Path, request_file: str
) -> None:
    demo = start(tmp_path, "demo", request_file)

    printed, _ = demo.communicate()

    assert demo.returncode == 0, printed
    video = Path(printed.splitlines()[-1])
    assert video == tmp_path / "demo.mp4"
    assert video.stat().st_size > 10_000
    assert "chunk 1 of 3, step 2 of 2" in printed
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize("moment", ["starting", "chunk_0_"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_leaves_no_process_when_it_is_stopped(
    tmp_path: Path, request_file: str, moment: str, number: signal.Signals
) -> None:
    demo = start(tmp_path, "demo", request_file)
    read_until(demo, moment)

    demo.send_signal(number)

    demo.communicate()
    assert demo.returncode != 0
    assert processes_of(tmp_path) == []


def test_a_running_farm_serves_its_metrics_and_refuses_a_second_one_in_its_home(
    tmp_path: Path,
) -> None:
    port = adjacent_free_ports(3)
    with running_farm(tmp_path, metrics_address=str(port)) as printed:
        urls = [f"http://127.0.0.1:{port + offset}/metrics" for offset in range(3)]
        pages = [urllib.request.urlopen(url).read() for url in urls]
        second, _ = start(tmp_path, "up").communicate()

    assert f"http://127.0.0.1:{port}/metrics" in printed
    assert [b"\nfarm_broker_up 1.0" in page for page in pages] == [True, False, False]
    assert [b"\nfarm_gpu_busy_seconds_total 0.0" in page for page in pages] == [False, True, True]
    assert "E_INPUT_VALIDATION: FARM_HOME: a farm is up in" in second
    assert processes_of(tmp_path) == []


def test_a_restart_loses_neither_connected_clients_nor_queued_jobs(
    tmp_path: Path, small: dict[str, Any], request_file: str
) -> None:
    environ = {"FARM_HOME": str(tmp_path)}
    with running_farm(tmp_path):
        farm = Farm(settings=Settings(home=tmp_path))
        assert farm.submit({**small, **ONE_CHUNK}).result().status == "success"
        words = ("submit", "--request", request_file, "--max-frame-num", "21")
        submitted = run_farm_command(environ, *words)
    job_id = submitted.stdout.strip()

    with running_farm(tmp_path):
        watched = run_farm_command(environ, "watch", job_id)
        connected = farm.submit({**small, **ONE_CHUNK}).result()

    assert "completed" in watched.stdout
    assert connected.status == "success"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the death of a parent")
def test_a_killed_farm_takes_its_children_along(tmp_path: Path) -> None:
    up = start(tmp_path, "up")
    read_until(up, "is up")

    up.kill()
    up.communicate()

    wait_for(lambda: processes_of(tmp_path) == [])


def test_a_farm_without_weights_warns(tmp_path: Path) -> None:
    up = start(tmp_path, "up", presets="infinitetalk-480")

    printed = read_until(up, "note: no video of infinitetalk-480 can be made yet")

    up.send_signal(signal.SIGINT)
    up.communicate()
    assert f"{tmp_path}/weights/infinitetalk-480 has no transformer, vae, " in printed
    assert ", tokenizer; run `farm weights pull`" in printed
