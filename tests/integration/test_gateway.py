"""Runpod's unmodified clients, a real gateway and a real farm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from farm import Farm
from farm.settings import Settings
from tests.conftest import EXAMPLES
from tests.integration.conftest import ENDLESS, ONE_CHUNK, PORTRAIT
from tests.support.gateway import Client
from tests.support.gateway_process import (
    client_environ,
    end_process,
    gateway_process,
    start_gateway,
)
from tests.support.node import node_example
from tests.support.ports import free_port
from tests.support.programs import installed_program
from tests.support.small_farm import SmallFarm
from tests.support.waiting import wait_for, wait_for_stage


def data_uri(path: Path, mime: str) -> str:
    return f"data:{mime};base64,{b64encode(path.read_bytes()).decode()}"


@pytest.fixture(scope="module")
def fields(small: dict[str, Any], voice: Path) -> dict[str, Any]:
    """A request whose files are in it."""
    return {
        **small,
        "cond_video": data_uri(PORTRAIT, "image/png"),
        "cond_audio": {"person1": data_uri(voice, "audio/wav")},
    }


@pytest.fixture(scope="module")
def payload(fields: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("payload") / "request.json"
    path.write_text(json.dumps({"input": {**fields, "max_frame_num": 42}}))
    return path


@pytest.fixture(scope="module")
def key() -> str:
    """What a client sends: the store is a folder, and so the gateway has no keys."""
    return "any"


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def gateway(supervisor: SmallFarm, port: int, key: str) -> Iterator[Client]:
    with gateway_process(supervisor.settings, port):
        yield Client(f"http://127.0.0.1:{port}", key)


def run_client(*command: str, port: int, key: str, cwd: Path | None = None) -> list[str]:
    """The lines that a client prints."""
    done = start_client(*command, port=port, key=key, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def start_client(
    *command: str, port: int, key: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """A client that has ended."""
    return subprocess.run(
        command,
        env={**os.environ, **client_environ(port, key)},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def assert_whole(lines: list[str], *, part: str = "part ") -> None:
    """A stream of chunks and a result, an end, a cancelled job, and the health of the farm."""
    parts = [json.loads(line[line.index("{") :]) for line in lines if line.startswith(part)]
    *chunks, result = parts
    assert [each["chunk"] for each in chunks] == list(range(chunks[0]["chunks"]))
    assert len(chunks) > 1
    assert result["status"] == "success"
    assert "cancelled CANCELLED" in lines
    (health,) = [line for line in lines if line.startswith("health ")]
    assert json.loads(health.removeprefix("health "))["jobs"]["completed"] > 0


needs_runpod = pytest.mark.skipif(find_spec("runpod") is None, reason="runpod is not installed")


@needs_runpod
def test_the_python_client_makes_videos(gateway: Client, payload: Path, port: int, key: str):
    script = str(EXAMPLES / "runpod_client.py")

    lines = run_client(sys.executable, script, str(payload), port=port, key=key)

    assert_whole(lines)
    assert any(line.startswith("ended COMPLETED file://") for line in lines)
    assert any(line.startswith("waited file://") for line in lines)


@needs_runpod
def test_the_asyncio_client_makes_videos(gateway: Client, payload: Path, port: int, key: str):
    script = str(EXAMPLES / "runpod_client_async.py")

    lines = run_client(sys.executable, script, str(payload), port=port, key=key)

    assert_whole(lines)
    assert any(line.startswith("ended ") and "COMPLETED success" in line for line in lines)


@pytest.fixture
def incomplete(tmp_path: Path) -> Path:
    """The file of a request that the gateway refuses."""
    file = tmp_path / "incomplete.json"
    file.write_text(json.dumps({"input": {"prompt": "a woman talks"}}))
    return file


@needs_runpod
@pytest.mark.parametrize("script", ["runpod_client.py", "runpod_client_async.py"])
def test_the_python_clients_show_why_a_request_is_refused(
    gateway: Client, incomplete: Path, port: int, key: str, script: str
):
    command = [sys.executable, str(EXAMPLES / script), str(incomplete)]

    refused = start_client(*command, port=port, key=key)

    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)
    assert "HTTP 400: " in refused.stderr
    assert "cond_video: it is missing" in refused.stderr


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Runpod's JavaScript client, as the example locks it."""
    return node_example("javascript", tmp_path_factory.mktemp("node"))


def test_the_javascript_client_makes_videos(
    gateway: Client, node_folder: Path, payload: Path, port: int, key: str
):
    node = installed_program("node")

    lines = run_client(node, "runpod_client.mjs", str(payload), port=port, key=key, cwd=node_folder)

    assert_whole(lines)
    assert any(line.startswith("ended COMPLETED file://") for line in lines)
    assert "waited COMPLETED true" in lines


def test_the_javascript_client_shows_why_a_request_is_refused(
    gateway: Client, node_folder: Path, incomplete: Path, port: int, key: str
):
    command = [installed_program("node"), "runpod_client.mjs", str(incomplete)]

    refused = start_client(*command, port=port, key=key, cwd=node_folder)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("cond_video: it is missing")


# Time limits, which the farm keeps


def test_a_job_beyond_its_execution_timeout_is_timed_out(
    gateway: Client, farm: Farm, fields: dict[str, Any]
):
    job_id = gateway.submit({**fields, **ENDLESS}, policy={"executionTimeout": 5_000})
    job = farm.job(job_id)
    wait_for_stage(job, "chunk_0_sampling")

    status = gateway.get(f"status-sync/{job_id}?wait=300000").body

    assert status["status"] == "TIMED_OUT"
    assert status["error"]["code"] == "E_TIMEOUT"
    assert status["executionTime"] >= 5_000


def test_a_job_ends_at_its_limit_also_while_no_gateway_runs(
    supervisor: SmallFarm, farm: Farm, fields: dict[str, Any], key: str
):
    port = free_port()
    with gateway_process(supervisor.settings, port):
        client = Client(f"http://127.0.0.1:{port}", key)
        job_id = client.submit({**fields, **ENDLESS}, policy={"ttl": 10_000})

    ended = farm.job(job_id).wait()

    assert ended.details["code"] == "E_TIMEOUT"


# A gateway that is restarted under waiting clients


def test_a_gateway_that_stops_answers_those_who_wait_and_the_next_one_goes_on(
    supervisor: SmallFarm, farm: Farm, fields: dict[str, Any], key: str
):
    port = free_port()
    client = Client(f"http://127.0.0.1:{port}", key)
    first = start_gateway(supervisor.settings, port)
    job_id = client.submit({**fields, **ENDLESS})
    with ThreadPoolExecutor(20) as pool:
        path = f"status-sync/{job_id}?wait=300000"
        waiting = [pool.submit(client.get, path) for _ in range(20)]
        wait_for(lambda: "farm_gateway_waits 20.0" in client.send("GET", "/metrics").body)
        assert end_process(first) == 0
        answers = [each.result() for each in waiting]
    assert {answer.status for answer in answers} == {200}
    assert {answer.body["status"] for answer in answers} <= {"IN_QUEUE", "IN_PROGRESS"}

    with gateway_process(supervisor.settings, port):
        assert client.get(f"status/{job_id}").body["status"] in ("IN_QUEUE", "IN_PROGRESS")
        assert client.post(f"cancel/{job_id}").body["status"] == "CANCELLED"


@needs_runpod
def test_the_python_client_outlives_a_gateway_that_is_killed(
    supervisor: SmallFarm, farm: Farm, fields: dict[str, Any], key: str, tmp_path: Path
):
    port = free_port()
    client = Client(f"http://127.0.0.1:{port}", key)
    first = start_gateway(supervisor.settings, port)
    job_id = client.submit({**fields, **ENDLESS})
    program = (
        "import os, sys\n"
        "from runpod.endpoint.runner import Job, RunPodClient\n"
        "job = Job('any', sys.argv[1], RunPodClient(os.environ['RUNPOD_API_KEY']))\n"
        "print(job.status(), flush=True)\n"
        "print(job.output(timeout=600))\n"
    )
    follower = subprocess.Popen(
        [sys.executable, "-c", program, job_id],
        env={**os.environ, **client_environ(port, key)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert follower.stdout is not None
    assert follower.stdout.readline().startswith("IN_")

    end_process(first, signal.SIGKILL)
    with gateway_process(supervisor.settings, port):
        client.post(f"cancel/{job_id}")
        printed, _ = follower.communicate()

    assert "E_CANCELLED" in printed
    assert follower.returncode == 0


def test_a_video_of_one_chunk_is_waited_for(gateway: Client, fields: dict[str, Any]):
    answer = gateway.post("runsync?wait=300000", {"input": {**fields, **ONE_CHUNK}})

    assert answer.body["status"] == "COMPLETED"
    assert answer.body["output"]["video"]["bytes"] > 0
    assert answer.body["executionTime"] > 0


def test_a_gateway_is_up_after_two_seconds_of_a_processor(supervisor: SmallFarm):
    def start_s() -> float:
        with gateway_process(supervisor.settings, free_port()) as process:
            spent = psutil.Process(process.pid).cpu_times()
            return spent.user + spent.system

    assert min(start_s() for _ in range(3)) < 2


def test_a_batch_has_a_result_for_each_item(gateway: Client, fields: dict[str, Any]):
    items = [{**fields, **ONE_CHUNK, "id": "good"}, {**fields, "promt": "?", "id": "bad"}]

    answer = gateway.post("runsync?wait=300000", {"input": {"batch": items}})

    assert answer.body["status"] == "COMPLETED"
    assert answer.body["output"]["status"] == "partial"
    results = {item["id"]: item["result"] for item in answer.body["output"]["items"]}
    assert results["good"]["video"]["bytes"] > 0
    assert "did you mean prompt" in results["bad"]["error"]["message"]


def test_the_farms_own_client_takes_a_gateway_for_an_endpoint(
    gateway: Client, small: dict[str, Any], port: int, key: str, tmp_path: Path
):
    settings = Settings(home=tmp_path, runpod_api_key=key, runpod_url=f"http://127.0.0.1:{port}/v2")
    remote = Farm("runpod://any", settings=settings)

    job = remote.submit({**small, **ONE_CHUNK})
    stages = [event.stage for event in job.events()]

    assert job.result().status == "success"
    assert stages[-1] == "completed"
    unwanted = remote.submit({**small, **ENDLESS})
    assert unwanted.cancel()
    assert unwanted.status().state == "cancelled"
