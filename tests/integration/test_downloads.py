"""Downloads from servers that never finish, beside everything else that a cpu worker does."""

from __future__ import annotations

import os
import signal
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socket import gethostname

import pytest

from farm import Farm, Job
from farm.queue.app import make_app
from farm.queue.brokers.redis import UNACKED
from farm.queue.dead_letters import require_redis
from farm.route import DOWNLOAD
from farm.settings import Settings
from tests.conftest import EXAMPLES
from tests.support.ports import adjacent_free_ports
from tests.support.processes import children_of
from tests.support.small_farm import SmallFarm, small_farm
from tests.support.waiting import wait_for, wait_for_stage
from tests.support.web_server import WebServer, web_server

PER_HOST = 8
"""The default of FARM_DOWNLOADS_PER_HOST."""

DRIP_INTERVAL_S = 5
"""More often than a silent server is given up."""

PATIENT = {"fetch_timeout_s": 3600, "fetch_min_bytes_per_s": 0, "fetch_allow": "127.0.0.0/8"}
"""Settings with which no server is given up before its test ends."""


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallFarm]:
    """A farm whose cpu worker has one child, and nothing but downloads to do for most tests."""
    home = tmp_path_factory.mktemp("home")
    ports = adjacent_free_ports(3)
    settings = {"metrics_address": ports, "lease_s": 10, "remote_control": True, **PATIENT}
    with small_farm(home, **settings) as supervisor:
        yield supervisor


class SlowServer:
    """A web server that says "wait" to each request for /face until `release`, and then 404."""

    def __init__(self, server: WebServer) -> None:
        self.server = server
        self.release = threading.Event()
        self.open = 0
        self.most_open = 0
        self._lock = threading.Lock()
        server.replies["/face"] = self._reply

    @property
    def requests(self) -> int:
        return len(self.server.requests)

    def submit(self, farm: Farm) -> Job:
        """A job whose face and voice are both at this server."""
        url = self.server.url("/face")
        return farm.submit(prompt="x", cond_video=url, cond_audio={"person1": url})

    def _reply(self, handler: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.open += 1
            self.most_open = max(self.open, self.most_open)
        try:
            while not self.release.wait(DRIP_INTERVAL_S):
                handler.wfile.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        finally:
            with self._lock:
                self.open -= 1
        handler.send_response(404)
        handler.send_header("Content-Length", "0")
        handler.end_headers()


@pytest.fixture
def slow() -> Iterator[SlowServer]:
    with web_server() as server:
        slow = SlowServer(server)
        yield slow
        slow.release.set()


def samples(settings: Settings) -> list[str]:
    """Lines of the metrics that the cpu worker serves."""
    host, port = settings.metrics_listen_address
    with urllib.request.urlopen(f"http://{host}:{port + 1}/metrics") as answer:
        return answer.read().decode().splitlines()


def downloads_worker(supervisor: SmallFarm) -> int:
    """The process of the cpu worker that downloads."""
    (pid,) = [
        child
        for child in children_of(supervisor.children["cpu"].pid)
        if b"downloads@%h" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    return pid


def test_fifty_slow_urls_delay_no_other_job_and_each_has_its_turn(
    supervisor: SmallFarm, farm: Farm, slow: SlowServer
) -> None:
    with web_server() as server:
        server.serve("/face", (EXAMPLES / "portrait.png").read_bytes())
        server.serve("/voice", (EXAMPLES / "speech.wav").read_bytes())
        urls = [f"http://localhost:{server.port}/{name}" for name in ("face", "voice")]
        # Given fifty jobs whose server is silent
        jobs = [slow.submit(farm) for _ in range(50)]
        wait_for(lambda: slow.requests == 2 * PER_HOST)
        # When one from another host, and one without URLs, come after them
        others = [
            farm.submit(prompt="x", cond_video=urls[0], cond_audio={"person1": urls[1]}),
            farm.submit(
                prompt="x",
                cond_video=str(EXAMPLES / "portrait.png"),
                cond_audio={"person1": str(EXAMPLES / "speech.wav")},
            ),
        ]
        # Then these are downloaded, and their next step begins
        for job in others:
            wait_for_stage(job, "embeddings_started")
            job.cancel(by="a test")
    assert slow.requests == slow.most_open == 2 * PER_HOST
    assert not any(job.status().ended for job in jobs)
    # Both processes have sent their metrics to the one that serves them
    wait_for(lambda: 'farm_step_seconds_count{step="download"} 2.0' in samples(supervisor.settings))
    # When the server answers, then every one of them is asked for, never too many at once
    slow.release.set()
    wait_for(lambda: all(job.status().ended for job in jobs))
    assert {job.status().details["code"] for job in jobs} == {"E_DOWNLOAD_FAILED"}
    assert slow.most_open == 2 * PER_HOST
    assert farm.context.registry.hosts.first("127.0.0.1", 50) == []


def test_a_draining_cpu_worker_leaves_its_downloads_to_the_next(
    supervisor: SmallFarm, farm: Farm, slow: SlowServer
) -> None:
    # Given as many downloads as a host has turns, and one that waits
    jobs = [slow.submit(farm) for _ in range(PER_HOST + 1)]
    wait_for(lambda: slow.requests == 2 * PER_HOST)
    wait_for(lambda: farm.context.registry.hosts.first("127.0.0.1", 1))
    # When the worker drains
    worker = supervisor.children["cpu"]
    worker.terminate()
    assert worker.wait() == 0
    # Then it leaves no message behind, and nothing is counted
    assert require_redis(farm.context.registry).redis.hlen(UNACKED) == 0
    attempts = farm.context.registry.steps.attempts
    assert {attempts(job.id, DOWNLOAD.id) for job in jobs} == {0}
    # And the next worker downloads them all
    supervisor.restart_dead()
    slow.release.set()
    wait_for(lambda: all(job.status().ended for job in jobs))


def test_a_cpu_worker_that_is_shut_down_by_remote_control_takes_its_downloads_along(
    supervisor: SmallFarm, farm: Farm, slow: SlowServer
) -> None:
    downloads = downloads_worker(supervisor)
    job = slow.submit(farm)
    wait_for(lambda: slow.requests == 2)
    make_app(supervisor.settings).control.shutdown(destination=[f"cpu@{gethostname()}"])
    assert supervisor.children["cpu"].wait() == 0
    assert not Path(f"/proc/{downloads}").exists()
    assert farm.context.registry.steps.attempts(job.id, DOWNLOAD.id) == 0
    job.cancel(by="a test")
    supervisor.restart_dead()


def test_a_killed_worker_is_replaced_and_those_that_wait_keep_their_place(
    supervisor: SmallFarm, farm: Farm, slow: SlowServer
) -> None:
    jobs = [slow.submit(farm) for _ in range(PER_HOST + 2)]
    wait_for(lambda: slow.requests == 2 * PER_HOST)
    wait_for(lambda: len(farm.context.registry.hosts.first("127.0.0.1", 9)) == 2)
    killed = downloads_worker(supervisor)
    # When the worker that downloads is killed, but not the cpu worker
    os.kill(killed, signal.SIGKILL)
    # Then another takes over once the leases have expired
    slow.release.set()
    wait_for(lambda: all(job.status().ended for job in jobs))
    assert downloads_worker(supervisor) != killed
    attempts = [farm.context.registry.steps.attempts(job.id, DOWNLOAD.id) for job in jobs]
    assert sum(number > 1 for number in attempts) == PER_HOST
