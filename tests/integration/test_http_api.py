"""The farm's own HTTP API before a real farm: a generated client, and a player."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from farm import Farm
from tests.integration.conftest import PORTRAIT
from tests.integration.test_gateway import data_uri
from tests.support.gateway import Client
from tests.support.gateway_process import gateway_process
from tests.support.node import node_example, run_in
from tests.support.player import play
from tests.support.ports import free_port
from tests.support.small_farm import SmallFarm
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def gateway(supervisor: SmallFarm) -> Iterator[Client]:
    port = free_port()
    with gateway_process(supervisor.settings, port):
        yield Client(f"http://127.0.0.1:{port}")


def test_a_client_generated_from_the_openapi_document_makes_a_video(
    gateway: Client, voice: Path, tmp_path: Path
):
    folder = node_example("typescript", tmp_path)
    environ = {"FARM_URL": gateway.url}
    run_in(folder, "npm", "run", "generate", environ=environ)
    run_in(folder, "npm", "run", "build", environ=environ)

    files = (str(PORTRAIT), str(voice), "talking.mp4")
    lines = run_in(folder, "node", "talking.js", *files, environ=environ).splitlines()

    _, job_id, state = lines[0].split()
    assert state in ("queued", "running")
    assert "event completed 100" in lines
    etag = sha256((folder / "talking.mp4").read_bytes()).hexdigest()
    assert f'saved talking.mp4 "{etag}"' in lines
    assert lines[-1] == f"listed {job_id}"


def test_a_video_is_played_by_http_while_it_is_made(
    gateway: Client, farm: Farm, small: dict[str, Any], voice: Path
):
    fields = {
        **small,
        "cond_video": data_uri(PORTRAIT, "image/png"),
        "cond_audio": {"person1": data_uri(voice, "audio/wav")},
        "max_frame_num": 37,
    }
    path = f"/v1/jobs/{gateway.submit_v1(fields)}/playlist.m3u8"
    wait_for(lambda: gateway.send("GET", path).status == 200)

    played = play(gateway.url + path)

    assert played.times == list(range(37))
