"""Flower beside a farm that is up: what a person reads there, who is let in, and that it ends with the farm."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm import Farm
from farm.settings import Settings
from tests.integration.test_farm import eventually
from tests.integration.test_up import ROOT, left_behind, read_until

AUTH = "me:secret-of-flower"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flower")


@pytest.fixture(scope="module")
def url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(scope="module")
def up(home: Path, url: str) -> Iterator[subprocess.Popen[str]]:
    environ = {**os.environ, "FARM_HOME": str(home), "FARM_FLOWER_AUTH": AUTH, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "farm", "up", "--flower", url.removeprefix("http://")]
    process = subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    read_until(process, f"Flower is at {url}")
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def farm(up: subprocess.Popen[str], home: Path) -> Farm:
    return Farm(settings=Settings(home=home))


def get(url: str, auth: str | None = AUTH) -> bytes:
    headers = {"Authorization": "Basic " + base64.b64encode(auth.encode()).decode()} if auth else {}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return answer.read()


def shown(url: str, job_id: str) -> dict[str, dict[str, Any]]:
    """What Flower tells of each message of a job, by the message's name."""
    tasks = json.loads(get(f"{url}/api/tasks"))
    return {name.removeprefix(f"{job_id}-"): task for name, task in tasks.items() if name.startswith(job_id)}


def test_a_person_reads_there_which_chunk_of_which_job(farm: Farm, url: str, small: dict[str, Any]) -> None:
    job = farm.submit({**small, "prompt": "words that nobody else shall read"})
    job.result(timeout_s=120)
    chunks = farm.context.registry.steps.committed(job.id, "embed")["chunks"]

    tasks = eventually(lambda: (found := shown(url, job.id)).get("mux-a1", {}).get("state") == "SUCCESS" and found, 20)

    told = {name: (task["name"], task["args"], task["state"]) for name, task in tasks.items()}
    assert told == {
        "download-a1": ("farm.download", f"job {job.id}", "SUCCESS"),
        "embed-a1": ("farm.embed", f"job {job.id}", "SUCCESS"),
        **{
            f"c{chunk:04d}-a1": ("farm.generate", f"job {job.id}, chunk {chunk + 1} of {chunks}", "SUCCESS")
            for chunk in range(chunks)
        },
        "mux-a1": ("farm.mux", f"job {job.id}", "SUCCESS"),
    }
    assert "words that nobody" not in json.dumps(tasks)


def test_a_cancelled_jobs_message_stands_as_revoked(farm: Farm, url: str, small: dict[str, Any]) -> None:
    job = farm.submit({**small, "sample_steps": 1000})
    eventually(lambda: "_sampling_" in job.status().stage)

    job.cancel()

    eventually(lambda: shown(url, job.id).get("c0000-a1", {}).get("state") == "REVOKED", 20)


@pytest.mark.parametrize("page", ["/", "/tasks", "/broker", "/api/tasks", "/api/workers"])
@pytest.mark.parametrize("auth", [None, "me:wrong", "me:"])
def test_nobody_is_let_in_without_the_password(
    up: subprocess.Popen[str], url: str, page: str, auth: str | None
) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(url + page, auth)
    assert caught.value.code == 401


@pytest.mark.parametrize("page", ["/", "/tasks", "/broker"])
def test_no_page_shows_the_brokers_password(farm: Farm, url: str, page: str) -> None:
    password = farm.context.settings.broker_address.split("@")[0].rpartition(":")[2]
    assert password.encode() not in get(url + page)


def test_no_command_line_shows_a_password(farm: Farm, home: Path) -> None:
    password = farm.context.settings.broker_address.split("@")[0].rpartition(":")[2]
    commands = " ".join(left_behind(home))
    assert "celery -A tasks flower" in commands
    assert password not in commands
    assert AUTH not in commands


def test_a_killed_flower_is_started_again(up: subprocess.Popen[str], farm: Farm, home: Path, url: str) -> None:
    port = f"--port={url.rpartition(':')[2]}"
    (pid,) = subprocess.run(["pgrep", "-f", "--", port], capture_output=True, text=True, check=True).stdout.split()

    os.kill(int(pid), signal.SIGKILL)

    assert "Flower ended with status -9" in read_until(up, "starting it again")
    eventually(lambda: answers(url), 30)


def answers(url: str) -> bool:
    try:
        return get(f"{url}/healthcheck") == b"OK"
    except OSError:
        return False


def test_it_ends_with_the_farm(up: subprocess.Popen[str], home: Path, url: str) -> None:
    up.send_signal(signal.SIGINT)

    up.communicate(timeout=60)

    assert up.returncode == 0
    assert left_behind(home) == []
    assert not answers(url)
