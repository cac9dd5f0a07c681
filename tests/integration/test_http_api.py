"""The farm's own HTTP API before a real farm: a generated client, and a player."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from farm import Farm
from tests.integration.conftest import ONE_CHUNK, PORTRAIT
from tests.integration.test_gateway import data_uri
from tests.support.gateway import Client
from tests.support.gateway_process import gateway_process
from tests.support.holding import hold
from tests.support.node import node_example, run_in
from tests.support.player import play
from tests.support.ports import free_port
from tests.support.small_farm import SmallFarm
from tests.support.waiting import wait_for, wait_for_stage


@pytest.fixture(scope="module")
def gateway(supervisor: SmallFarm) -> Iterator[Client]:
    port = free_port()
    with gateway_process(supervisor.settings, port):
        yield Client(f"http://127.0.0.1:{port}")


@pytest.fixture
def busy(supervisor: SmallFarm, farm: Farm, small: dict[str, Any]) -> Iterator[Callable[[], None]]:
    """The only cpu worker is busy, until the function is called."""
    with hold(supervisor.settings, "embeddings_started") as release:
        wait_for_stage(farm.submit({**small, **ONE_CHUNK}), "embeddings_started")
        yield release


def test_a_client_generated_from_the_openapi_document_makes_a_video(
    gateway: Client, busy: Callable[[], None], voice: Path, tmp_path: Path
):
    folder = node_example("typescript", tmp_path)
    environ = {"FARM_URL": gateway.url}
    for script in ("generate", "build"):
        list(run_in(folder, "npm", "run", script, environ=environ))

    files = (str(PORTRAIT), str(voice), "talking.mp4")
    printed = run_in(folder, "node", "talking.js", *files, environ=environ)
    _, job_id, state = next(printed).split()
    busy()
    lines = list(printed)

    assert state == "queued"
    assert "event completed 100" in lines
    etag = sha256((folder / "talking.mp4").read_bytes()).hexdigest()
    assert f'saved talking.mp4 "{etag}"' in lines
    assert lines[-2:] == [f"listed {job_id}", f"deleted {job_id}"]
    assert gateway.send("GET", f"/v1/jobs/{job_id}").status == 404


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
