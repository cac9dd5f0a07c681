"""The step `download` and its sources: servers that never finish, and jobs that end meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from farm.engine.context import Context
from farm.engine.step_context import WorkerDraining
from farm.errors import DownloadFailed
from farm.job import JobRequest
from farm.registry import open_registry
from farm.route import DOWNLOAD
from farm.settings import Settings
from farm.store.memory import MemoryStore
from tests.support.jobs import job_request
from tests.support.steps import run_step
from tests.support.waiting import wait_for
from tests.support.web_server import WebServer, web_server


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    settings = Settings(home=tmp_path, fetch_allow=(ip_network("127.0.0.0/8"),))
    return Context(settings, MemoryStore(), open_registry("memory://"))


def request_to(server: WebServer) -> JobRequest:
    """A job whose face and voice are both at /face."""
    url = server.url("/face")
    return job_request(cond_video=url, cond_audio={"person1": url})


@pytest.fixture
def silent() -> Iterator[WebServer]:
    """A web server that receives requests for /face and never answers."""
    released = threading.Event()
    with web_server() as server:
        server.replies["/face"] = lambda handler: released.wait()
        yield server
        released.set()


def test_a_cancelled_job_ends_its_download_within_5_seconds(ctx, silent):
    ctx.registry.entries.add("a", request_to(silent))

    def cancel() -> None:
        wait_for(lambda: silent.requests)
        ctx.registry.jobs.cancel("a", by="a test")

    threading.Thread(target=cancel, daemon=True).start()
    begun = time.monotonic()
    assert run_step(ctx, "a", DOWNLOAD) is None
    assert time.monotonic() - begun < 5
    assert ctx.registry.jobs.status("a").state == "cancelled"


def test_a_draining_worker_leaves_its_download_within_5_seconds(ctx, silent):
    ctx.registry.entries.add("a", request_to(silent))
    begun = time.monotonic()
    with pytest.raises(WorkerDraining):
        run_step(ctx, "a", DOWNLOAD, draining=lambda: bool(silent.requests))
    assert time.monotonic() - begun < 5
    assert ctx.registry.steps.attempts("a", DOWNLOAD.id) == 0


def test_the_sources_of_a_job_are_downloaded_at_once(ctx):
    # Given a server that answers nobody before all three sources were asked for
    asked = threading.Barrier(3)
    with web_server() as server:

        def reply(handler):
            asked.wait(timeout=30)
            handler.send_response(404)
            handler.end_headers()

        voices = {"person1": server.url("/1"), "person2": server.url("/2")}
        server.replies = {"/face": reply, "/1": reply, "/2": reply}
        fields = {"cond_video": server.url("/face"), "cond_audio": voices, "audio_type": "para"}
        ctx.registry.entries.add("a", job_request(**fields))
        # When they are downloaded, then it has answered
        with pytest.raises(DownloadFailed, match="HTTP 404"):
            run_step(ctx, "a", DOWNLOAD)


def test_a_download_that_fails_stops_the_others(ctx, silent):
    silent.serve("/voice", b"", status=404)
    voice = {"person1": silent.url("/voice")}
    request = job_request(cond_video=silent.url("/face"), cond_audio=voice)
    ctx.registry.entries.add("a", request)
    begun = time.monotonic()
    with pytest.raises(DownloadFailed, match=r"cond_audio\.person1: .*HTTP 404"):
        run_step(ctx, "a", DOWNLOAD)
    assert time.monotonic() - begun < 5


def test_a_slow_server_fails_the_attempt(ctx, silent):
    changed = {"fetch_min_bytes_per_s": 1000, "fetch_speed_window_s": 0.3}
    ctx = replace(ctx, settings=ctx.settings.model_copy(update=changed))
    ctx.registry.entries.add("a", request_to(silent))
    begun = time.monotonic()
    assert run_step(ctx, "a", DOWNLOAD) is None
    assert time.monotonic() - begun < 5
    assert ctx.registry.steps.attempts("a", DOWNLOAD.id) == 1
