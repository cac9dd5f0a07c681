"""The page, unchanged, on an endpoint instead of a farm with a broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from farm import Farm
from farm.net.address import ListenAddress
from farm.ui.serve import open_page
from tests.support.api_server import ApiServer
from tests.support.endpoint import accept_jobs, farm_of, posted, progress, result, say
from tests.support.ports import free_port
from tests.support.visitor import Visitor


@pytest.fixture
def farm(server: ApiServer, tmp_path: Path) -> Farm:
    return farm_of(server, tmp_path / "home", ui_auth="ann:secret", fetch_allow="127.0.0.0/8")


@pytest.fixture
def ann(farm: Farm) -> Iterator[Visitor]:
    address = ListenAddress("127.0.0.1", free_port())
    with open_page(farm, address), httpx2.Client(base_url=address.url, timeout=60) as client:
        yield Visitor(client, "ann", "secret")


def test_a_video_is_made_on_the_page(server, farm, ann, portrait, voice):
    accept_jobs(server, "job-1")
    say(server, "job-1", **progress(1, "chunk_0_decode", 40, chunk=0, chunks=1))
    entered = {"face": ann.upload(portrait), "audio1": ann.upload(voice), "browserstate": []}
    own_jobs, *_ = ann.call("submit", "click", entered)
    assert own_jobs[0][0] == "job-1"
    assert posted(server)[0].json["input"]["cond_video"].startswith("data:image/png;base64,")
    bar = ann.call("timer", "tick", {"browserstate": own_jobs})[4]
    assert 'aria-valuenow="40"' in bar
    server.script("GET /v2/store/talking.mp4", b"the video")
    say(server, "job-1", "COMPLETED", output=result(f"{server.url}/store/talking.mp4"))
    farm.job("job-1").wait()
    download = ann.call("timer", "tick", {"browserstate": own_jobs})[6]
    served = ann.client.get(f"/gradio_api/file={download['value']['path']}")
    assert served.content == b"the video"


def test_a_job_of_somebody_else_is_not_shown(server, ann):
    say(server, "foreign", "IN_QUEUE")
    assert ann.listed("foreign") == []


def test_the_page_says_what_a_complete_request_would_take(ann, portrait, voice):
    face = {"face": ann.upload(portrait)}
    assert ann.call("audio1", "change", face) == [""]
    (estimate,) = ann.call("audio1", "change", {**face, "audio1": ann.upload(voice)})
    assert estimate.startswith("<p>9.0 s of video (224 frames, 3 chunks); about ")
