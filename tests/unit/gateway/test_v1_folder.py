"""Keys beside a store that is a folder: /v1 sends the files itself, and tells no path."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from farm.client import Farm
from farm.gateway.serve import make_server
from farm.job import Artifact, Result, Video
from farm.net.address import ListenAddress
from farm.settings import Settings
from farm.store import keys
from tests.support.gateway import Client
from tests.support.jobs import FIELDS
from tests.support.outputs import mux_output
from tests.support.ports import free_port
from tests.support.steps import acquire, commit
from tests.unit.gateway.conftest import Key

FILES = {"video": "talk.mp4", "thumbnail": keys.THUMBNAIL, "manifest": "manifest.json"}


@pytest.fixture
def farm(broker: str, tmp_path: Path) -> Farm:
    return Farm(settings=Settings(home=tmp_path, broker_url=broker), local_files=False)


@pytest.fixture
def anna(key: Key) -> Client:
    return key("anna")


def finish(farm: Farm, job_id: str, copied_to: str | None = None) -> None:
    """Ends a job with a video, a thumbnail and a manifest, in the store or copied elsewhere."""
    store = farm.context.store
    lease = acquire(farm.context.registry, "mux", job_id=job_id)
    stored = {
        kind: keys.attempt(job_id, "mux", lease.attempt_id, name) for kind, name in FILES.items()
    }
    for kind, key in stored.items():
        store.put(key, kind.encode())
    urls = {kind: copied_to or store.url(key) for kind, key in stored.items()}
    artifacts: list[Any] = [
        Artifact(type=kind, url=url, mime="a/b", bytes=9)  # type: ignore[arg-type]
        for kind, url in urls.items()
    ]
    video = Video(url=urls["video"], bytes=9, thumbnail_url=urls["thumbnail"])
    result = Result(job_id=job_id, status="success", video=video, artifacts=tuple(artifacts))
    output = mux_output(job_id, video_key=stored["video"], result=result)
    digests = {key: sha256(kind.encode()).hexdigest() for kind, key in stored.items()}
    assert commit(farm.context.registry, lease, output, digests=digests)
    farm.context.registry.jobs.end(job_id, "success", result)


def test_a_key_takes_a_job_from_its_submission_to_its_video(anna: Client, farm: Farm):
    job_id = anna.submit_v1(FIELDS)
    finish(farm, job_id)

    video, thumbnail = (
        anna.send("GET", f"/v1/jobs/{job_id}/{part}") for part in ("content", "thumbnail")
    )

    assert (video.content, video.headers["Content-Type"]) == (b"video", "video/mp4")
    assert (thumbnail.content, thumbnail.headers["Content-Type"]) == (b"thumbnail", "image/jpeg")


def test_a_result_has_links_in_place_of_paths(anna: Client, farm: Farm, tmp_path: Path):
    job_id = anna.submit_v1(FIELDS)
    finish(farm, job_id)

    job = anna.send("GET", f"/v1/jobs/{job_id}").body

    assert str(tmp_path) not in json.dumps(job)
    shown = job["result"]["video"]
    assert (shown["url"], shown["thumbnail_url"]) == (
        job["links"]["content"],
        job["links"]["thumbnail"],
    )
    assert [each["type"] for each in job["result"]["artifacts"]] == ["video", "thumbnail"]
    for link in (shown["url"], shown["thumbnail_url"]):
        assert Client(anna.url).send("GET", link).status == 200, "a signed link needs no key"


def test_the_folder_to_which_the_operator_has_results_copied_is_told(anna: Client, farm: Farm):
    job_id = anna.submit_v1(FIELDS)
    finish(farm, job_id, copied_to="file:///results/anna/talk.mp4")

    result = anna.send("GET", f"/v1/jobs/{job_id}").body["result"]

    assert result["video"]["url"] == "file:///results/anna/talk.mp4"
    assert len(result["artifacts"]) == 3


@pytest.mark.parametrize("part", ["", "/content", "/thumbnail", "/playlist.m3u8", "/events"])
def test_the_files_of_another_tenant_are_unknown(anna: Client, farm: Farm, key: Key, part: str):
    job_id = anna.submit_v1(FIELDS)
    finish(farm, job_id)

    foreign = key("bert").send("GET", f"/v1/jobs/{job_id}{part}")
    keyless = Client(anna.url).send("GET", f"/v1/jobs/{job_id}{part}")

    assert (foreign.status, keyless.status) == (404, 401)


def test_a_job_without_a_video_has_no_thumbnail(anna: Client):
    job_id = anna.submit_v1(FIELDS)

    assert anna.send("GET", f"/v1/jobs/{job_id}").body["links"]["thumbnail"] is None
    assert anna.send("GET", f"/v1/jobs/{job_id}/thumbnail").status == 409


def test_runpods_calls_need_urls_that_a_keys_holder_can_read(anna: Client):
    answer = anna.post("run", {"input": FIELDS})

    assert answer.status == 503
    assert "allowed: s3://bucket/prefix, or the calls under /v1" in answer.message


def test_a_gateway_starts_with_keys_and_a_folder_and_logs_what_it_lacks(
    farm: Farm, anna: Client, caplog: pytest.LogCaptureFixture
):
    make_server(farm, ListenAddress("127.0.0.1", free_port()), lambda: None)

    assert "gateway_without_runpod_api" in caplog.messages
