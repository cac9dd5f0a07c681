"""Flower beside a running farm: what it shows, who may log in, and that it ends with the farm."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm import Farm
from farm.engine.advance import chunk_count
from farm.local.flower import auth_file
from farm.queue.app import make_app
from farm.settings import Settings
from tests.integration.conftest import ENDLESS
from tests.support.commands import read_until, start_farm_command
from tests.support.ports import free_port
from tests.support.processes import processes_of
from tests.support.small_farm import KINDS
from tests.support.waiting import wait_for, wait_for_stage


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flower")


@pytest.fixture(scope="module")
def url() -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def up(home: Path, url: str) -> Iterator[subprocess.Popen[str]]:
    environ = {"FARM_HOME": str(home), "FARM_CPU_CONCURRENCY": "1"}
    address = url.removeprefix("http://")
    process = start_farm_command(environ, "up", "--flower", address, stderr=subprocess.STDOUT)
    read_until(process, f"Flower is at {url}")
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def farm(home: Path, url: str, auth: str) -> Farm:
    """The farm, once Flower has subscribed to the events of its workers."""
    wait_for(lambda: any(json.loads(get(f"{url}/api/workers?status=true", auth)).values()))
    return Farm(settings=Settings(home=home))


@pytest.fixture(scope="module")
def broker_password(farm: Farm) -> str:
    return farm.context.settings.broker_address.split("@")[0].rpartition(":")[2]


@pytest.fixture(scope="module")
def auth(up: subprocess.Popen[str], home: Path) -> str:
    """USER:PASSWORD, generated since none is set."""
    return auth_file(Settings(home=home)).read_text().strip()


def get(url: str, auth: str | None = None, **headers: str) -> bytes:
    if auth:
        headers["Authorization"] = f"Basic {base64.b64encode(auth.encode()).decode()}"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        body: bytes = answer.read()
        return body


def answers(url: str) -> bool:
    try:
        return get(f"{url}/healthcheck") == b"OK"
    except OSError:
        return False


def messages(url: str, auth: str, job_id: str) -> dict[str, dict[str, Any]]:
    """What Flower shows of each message of a job, by the message's name."""
    tasks = json.loads(get(f"{url}/api/tasks", auth))
    return {
        name.removeprefix(f"{job_id}-"): task
        for name, task in tasks.items()
        if name.startswith(job_id)
    }


def wait_for_state(url: str, auth: str, job_id: str, message: str, state: str) -> None:
    wait_for(lambda: messages(url, auth, job_id).get(message, {}).get("state") == state)


def test_a_person_reads_which_chunk_of_which_job(
    farm: Farm, url: str, auth: str, small: dict[str, Any]
) -> None:
    job = farm.submit({**small, "prompt": "a secret prompt", "max_frame_num": 37})
    job.result()
    chunks = chunk_count(farm.context, job.id)

    wait_for_state(url, auth, job.id, "mux-a1", "SUCCESS")

    tasks = messages(url, auth, job.id)
    shown = {name: (task["name"], task["args"], task["state"]) for name, task in tasks.items()}
    generated = {
        f"c{chunk:04d}-a1": (
            "farm.generate",
            f"job {job.id}, chunk {chunk + 1} of {chunks}",
            "SUCCESS",
        )
        for chunk in range(chunks)
    }
    assert len(generated) == 2
    assert shown == {
        "download-a1": ("farm.download", f"job {job.id}", "SUCCESS"),
        "embed-a1": ("farm.embed", f"job {job.id}", "SUCCESS"),
        **generated,
        "mux-a1": ("farm.mux", f"job {job.id}", "SUCCESS"),
    }
    assert "a secret prompt" not in json.dumps(tasks)


def test_the_message_of_a_cancelled_job_is_shown_as_revoked(
    farm: Farm, url: str, auth: str, small: dict[str, Any]
) -> None:
    job = farm.submit({**small, **ENDLESS})
    wait_for_stage(job, "chunk_0_sampling_")

    job.cancel()

    wait_for_state(url, auth, job.id, "c0000-a1", "REVOKED")


@pytest.mark.parametrize("page", ["/", "/tasks", "/broker", "/api/tasks", "/api/workers"])
@pytest.mark.parametrize("given", [None, "farm:wrong", "farm:"])
def test_no_page_opens_without_the_password(
    up: subprocess.Popen[str], url: str, page: str, given: str | None
) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(url + page, given)
    assert caught.value.code == 401


@pytest.mark.parametrize("page", ["/", "/tasks", "/broker", "/api/tasks", "/api/workers"])
def test_no_page_opens_to_a_website_whose_name_leads_to_loopback(
    up: subprocess.Popen[str], url: str, page: str
) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(url + page, Host="evil.example:5555")
    assert caught.value.code == 401


def test_workers_beside_flower_obey_its_buttons(farm: Farm) -> None:
    control = make_app(farm.context.settings).control
    wait_for(lambda: len(control.ping(timeout=0.5)) == len(KINDS))


@pytest.mark.parametrize("page", ["/", "/tasks", "/broker"])
def test_no_page_shows_the_password_of_the_broker(
    url: str, auth: str, broker_password: str, page: str
) -> None:
    assert broker_password.encode() not in get(url + page, auth)


def test_no_command_line_shows_a_password(home: Path, auth: str, broker_password: str) -> None:
    commands = " ".join(processes_of(home))
    assert "-A farm.tasks flower" in commands
    assert broker_password not in commands
    assert auth.partition(":")[2] not in commands


def test_a_killed_flower_is_started_again(up: subprocess.Popen[str], url: str) -> None:
    port = f"--port={url.rpartition(':')[2]}"
    found = subprocess.run(["pgrep", "-f", "--", port], capture_output=True, text=True, check=True)
    (pid,) = found.stdout.split()

    os.kill(int(pid), signal.SIGKILL)

    assert "Flower ended with status -9" in read_until(up, "starting it again")
    wait_for(lambda: answers(url))


def test_flower_ends_with_the_farm(up: subprocess.Popen[str], home: Path, url: str) -> None:
    up.send_signal(signal.SIGINT)
    up.communicate()

    assert up.returncode == 0
    assert processes_of(home) == []
    assert not answers(url)
