"""The fake Runpod speaks as its SDK does: worker loop and clients are the real ones."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import runpod
import urllib3

from tests.support.runpod import KEY, FakeRunpod, Fault, fake_runpod, start_worker
from tests.support.runpod.endpoint import Rules
from tests.support.waiting import wait_for

HANDLERS = ["-m", "tests.support.runpod.handlers"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def fake(folder: Path) -> Iterator[FakeRunpod]:
    """A Runpod with a worker of its endpoint `echo` and one of `stream`."""
    with (
        fake_runpod(Rules(poll_s=1)) as fake,
        start_worker(fake, HANDLERS, folder / "echo.log"),
        start_worker(fake, [*HANDLERS, "stream"], folder / "stream.log", endpoint="stream"),
    ):
        yield fake


@pytest.fixture
def client(fake: FakeRunpod, monkeypatch: pytest.MonkeyPatch) -> runpod.Endpoint:
    """Runpod's own client."""
    monkeypatch.setattr(runpod, "endpoint_url_base", fake.url)
    return runpod.Endpoint("echo", api_key=KEY)


def ask(
    fake: FakeRunpod, method: str, path: str, body: object = None, key: str = KEY, **options: Any
) -> urllib3.BaseHTTPResponse:
    headers = {"Authorization": key, "Content-Type": "application/json"}
    content = None if body is None else json.dumps(body).encode()
    url = f"{fake.url}/{path}"
    return urllib3.request(method, url, body=content, headers=headers, retries=False, **options)


def test_what_a_handler_returns_is_the_output(fake: FakeRunpod) -> None:
    job = fake.finished({"input": {"echo": {"seed": 0}}})
    assert (job.status, job.output, job.error) == ("COMPLETED", {"seed": 0}, None)
    assert job.runs == ["pod-1"]


def test_nothing_returned_is_no_output(fake: FakeRunpod) -> None:
    assert fake.finished({"input": {"answer": {}}}).posts == [{}]


def test_a_returned_error_fails_the_job_and_the_rest_is_its_output(fake: FakeRunpod) -> None:
    job = fake.finished({"input": {"answer": {"error": {"code": "E_OOM"}, "kept": 1}}})
    assert (job.status, job.output, job.error) == ("FAILED", {"kept": 1}, {"code": "E_OOM"})


def test_a_raised_error_leaves_with_its_traceback(fake: FakeRunpod) -> None:
    job = fake.finished({"input": {"raise": "no"}})
    assert job.status == "FAILED"
    assert "Traceback" in json.loads(job.error)["error_traceback"]


def test_progress_is_the_output_until_the_end(fake: FakeRunpod) -> None:
    held = threading.Event()
    fake.faults.add("job-done", Fault(held=held))
    job = fake.submit({"input": {"progress": 2}})
    wait_for(lambda: len(job.progress) == 2)
    seen = ask(fake, "GET", f"echo/status/{job.id}").json()
    held.set()
    wait_for(lambda: job.ended)
    assert seen["status"] == "IN_PROGRESS"
    assert seen["output"] in job.progress
    assert sorted(each["number"] for each in job.progress) == [0, 1]
    assert job.output == {"counted": 2}


def test_a_cancelled_job_is_stopped_and_posts_nothing(fake: FakeRunpod) -> None:
    job = fake.submit({"input": {"sleep": 600}})
    wait_for(lambda: job.progress)
    fake.cancel(job)
    assert fake.finished({"input": {"echo": 1}}).output == 1, "the worker is still asleep"
    assert (job.status, job.posts) == ("CANCELLED", [])


def test_a_job_over_its_execution_timeout_is_stopped(fake: FakeRunpod) -> None:
    job = fake.submit({"input": {"sleep": 600}, "policy": {"executionTimeout": 1500}})
    wait_for(lambda: job.ended)
    assert job.status == "TIMED_OUT"
    assert fake.finished({"input": {"echo": 1}}).output == 1


def test_a_job_over_its_time_to_live_is_never_run(fake: FakeRunpod) -> None:
    blocking = fake.submit({"input": {"sleep": 600}})
    wait_for(lambda: blocking.progress)
    job = fake.submit({"input": {"echo": 1}, "policy": {"ttl": 100}})
    wait_for(lambda: job.ended)
    fake.cancel(blocking)
    assert (job.status, job.runs) == ("TIMED_OUT", [])


def test_the_parts_of_a_generator_are_streamed_and_aggregated(fake: FakeRunpod) -> None:
    job = fake.finished({"input": {"count": 3}}, "stream")
    first = ask(fake, "GET", f"stream/stream/{job.id}").json()
    again = ask(fake, "GET", f"stream/stream/{job.id}").json()
    parts = [{"number": number} for number in range(3)]
    assert first == {"status": "COMPLETED", "stream": [{"output": part} for part in parts]}
    assert again == {"status": "COMPLETED", "stream": []}
    assert job.output == parts


def test_the_error_of_a_generator_is_text(fake: FakeRunpod) -> None:
    job = fake.finished({"input": {"count": 1, "error": {"code": "E_OOM"}}}, "stream")
    assert (job.status, job.error) == ("FAILED", "{'code': 'E_OOM'}")


def test_a_worker_of_two_takes_two_at_once(fake: FakeRunpod, folder: Path) -> None:
    jobs = [fake.submit({"input": {"sleep": 600}}, "two") for _ in range(2)]
    environ = {"CONCURRENCY": "2"}
    with start_worker(fake, HANDLERS, folder / "two.log", endpoint="two", environ=environ):
        wait_for(lambda: all(job.progress for job in jobs))
    assert fake.faults.calls["job-take-batch"] > 0


@pytest.mark.parametrize("status", [500, 204, 400])
def test_a_worker_asks_again_for_a_job(fake: FakeRunpod, status: int) -> None:
    fake.faults.add("job-take", Fault(status, times=3))
    assert fake.finished({"input": {"echo": 1}}).status == "COMPLETED"


def test_a_result_is_posted_three_times(fake: FakeRunpod) -> None:
    fake.faults.add("job-done", Fault(500, times=2))
    assert fake.finished({"input": {"echo": 1}}).posts == [{"output": 1}]


def test_a_result_that_is_refused_three_times_is_lost(fake: FakeRunpod) -> None:
    fake.faults.add("job-done", Fault(500, times=3))
    job = fake.submit({"input": {"echo": 1}})
    assert fake.finished({"input": {"echo": 2}}).output == 2
    assert (job.status, job.posts) == ("IN_PROGRESS", [])
    fake.cancel(job)


def test_a_result_after_the_end_changes_nothing(fake: FakeRunpod) -> None:
    held = threading.Event()
    fake.faults.add("job-done", Fault(held=held))
    job = fake.submit({"input": {"echo": 1}})
    wait_for(lambda: fake.faults.waiting["job-done"][-1].times == 0)
    fake.cancel(job)
    held.set()
    wait_for(lambda: job.posts)
    assert (job.status, job.output) == ("CANCELLED", None)


def test_the_jobs_of_a_lost_worker_are_queued_again(folder: Path) -> None:
    with fake_runpod(Rules(lost_s=2)) as fake:
        job = fake.submit({"input": {"exit": 3}})
        with start_worker(fake, HANDLERS, folder / "lost.log") as worker:
            wait_for(lambda: job.history == ["IN_QUEUE", "IN_PROGRESS", "IN_QUEUE"])
        assert worker.process.returncode == 3
        assert fake.endpoint().health()["jobs"]["retried"] == 1


def test_a_worker_that_is_terminated_while_idle_ends_with_its_poll(folder: Path) -> None:
    with (
        fake_runpod(Rules(poll_s=1)) as fake,
        start_worker(fake, HANDLERS, folder / "idle.log") as worker,
    ):
        assert fake.finished({"input": {"echo": 1}}).output == 1
        worker.terminate()
        assert worker.process.wait() == 0


def test_the_synchronous_client(client: runpod.Endpoint) -> None:
    assert client.run_sync({"input": {"echo": "now"}}) == "now"
    job = client.run({"input": {"echo": "later"}})
    assert job.output(timeout=60) == "later"
    assert client.health()["workers"]["ready"] == 1


def test_the_client_cancels_and_purges(fake: FakeRunpod, client: runpod.Endpoint) -> None:
    blocking = fake.submit({"input": {"sleep": 600}})
    wait_for(lambda: blocking.progress)
    waiting = client.run({"input": {"echo": 1}})
    assert client.purge_queue() == {"removed": 1, "status": "completed"}
    assert waiting.status() == "CANCELLED"
    fake.cancel(blocking)


def test_the_client_streams(fake: FakeRunpod, client: runpod.Endpoint) -> None:
    job = runpod.Endpoint("stream", api_key=KEY).run({"input": {"count": 2}})
    assert list(job.stream()) == [{"number": 0}, {"number": 1}]


def test_the_asyncio_client(fake: FakeRunpod, client: runpod.Endpoint) -> None:
    async def output() -> Any:
        async with aiohttp.ClientSession() as session:
            endpoint = runpod.AsyncioEndpoint("echo", session, api_key=KEY)
            job = await endpoint.run({"echo": "async"})
            return await job.output(timeout=60)

    assert asyncio.run(output()) == "async"


def test_a_failed_job_is_run_again_on_request(fake: FakeRunpod) -> None:
    job = fake.finished({"input": {"answer": {"error": "no"}}})
    assert ask(fake, "POST", f"echo/retry/{job.id}").json() == {"id": job.id, "status": "IN_QUEUE"}
    wait_for(lambda: job.ended)
    assert len(job.runs) == 2
    assert ask(fake, "POST", f"echo/retry/{fake.finished({'input': {'echo': 1}}).id}").status == 400


@pytest.mark.parametrize("key", ["wrong", "Bearer wrong", ""])
def test_a_wrong_key_is_refused(fake: FakeRunpod, key: str) -> None:
    assert ask(fake, "GET", "echo/health", key=key).status == 401


def test_a_key_may_come_with_bearer_and_without(fake: FakeRunpod) -> None:
    for key in (KEY, f"Bearer {KEY}"):
        assert ask(fake, "GET", "echo/health", key=key).status == 200


def test_unknown_endpoints_and_jobs_are_not_found(fake: FakeRunpod) -> None:
    job = fake.finished({"input": {"echo": 1}})
    fake.forget(job)
    for path in ("other/health", "echo/status/none", f"echo/status/{job.id}"):
        assert ask(fake, "GET", path).status == 404


def test_a_result_is_forgotten_after_its_time(folder: Path) -> None:
    with fake_runpod(Rules(kept_s=0.2)) as fake:
        job = fake.submit({"input": {"echo": 1}})
        fake.cancel(job)
        wait_for(lambda: ask(fake, "GET", f"echo/status/{job.id}").status == 404)


@pytest.mark.parametrize(
    ("body", "status"), [({}, 400), ([], 400), ({"input": {"text": "a" * 10_000_000}}, 413)]
)
def test_bodies_that_are_not_accepted(fake: FakeRunpod, body: object, status: int) -> None:
    assert ask(fake, "POST", "echo/run", body).status == status


def test_a_request_may_be_refused_or_lose_its_answer(fake: FakeRunpod) -> None:
    fake.faults.add("run", Fault(429, headers={"Retry-After": "7"}))
    fake.faults.add("run", Fault(0, takes_effect=True))
    body = {"input": {"echo": 1}}
    before = len(fake.jobs())
    assert ask(fake, "POST", "echo/run", body).headers["Retry-After"] == "7"
    assert len(fake.jobs()) == before
    with pytest.raises(urllib3.exceptions.HTTPError):
        ask(fake, "POST", "echo/run", body)
    assert len(fake.jobs()) == before + 1


def test_an_api_that_is_down_refuses_connections_and_keeps_its_jobs(folder: Path) -> None:
    with fake_runpod() as fake:
        job = fake.submit({"input": {"echo": 1}})
        with fake.down(), pytest.raises(urllib3.exceptions.NewConnectionError):
            ask(fake, "GET", "echo/health")
        with fake.away("status"):
            assert ask(fake, "GET", f"echo/status/{job.id}").status == 503
        assert ask(fake, "GET", f"echo/status/{job.id}").json()["status"] == "IN_QUEUE"


def test_hundreds_of_polls_hold_no_threads(folder: Path) -> None:
    with fake_runpod(Rules(poll_s=60)) as fake:
        before = threading.active_count()
        job = fake.submit({"input": {"echo": 1}})

        async def poll() -> list[int]:
            url = f"{fake.url}/echo/status-sync/{job.id}?wait=60000"
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(
                headers={"Authorization": KEY}, connector=connector
            ) as session:
                asking = [asyncio.create_task(session.get(url)) for _ in range(300)]
                while fake.faults.calls["status-sync"] < 300:
                    await asyncio.sleep(0.02)
                counts = [threading.active_count()]
                await asyncio.to_thread(fake.cancel, job)
                return counts + [response.status for response in await asyncio.gather(*asking)]

        threads, *statuses = asyncio.run(poll())
        assert statuses == [200] * 300
        assert threads == before
