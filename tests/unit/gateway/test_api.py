"""The calls of Runpod's queue API, as its clients read their answers."""

from __future__ import annotations

import pytest

from farm.client import Farm
from farm.errors import DownloadFailed, TimedOut
from farm.gateway.app import Gateway
from farm.job import Event, Result
from farm.registry.outputs import EmbedOutput
from tests.support.gateway import Client
from tests.support.jobs import FIELDS
from tests.support.outputs import output_of
from tests.support.steps import acquire, complete

RESULT = Result.model_validate(
    {
        "job_id": "a",
        "status": "success",
        "video": {"url": "https://example.org/a.mp4", "bytes": 9, "thumbnail_url": "https://t"},
    }
)


def report(farm: Farm, job_id: str, stage: str = "chunk_0_sampling_50", **details: object) -> None:
    farm.context.registry.jobs.report(
        Event(stage=stage, pct=30, job_id=job_id, details=dict(details))
    )


def finish(farm: Farm, job_id: str) -> None:
    farm.context.registry.jobs.end(job_id, "success", RESULT)


def fail(farm: Farm, job_id: str, error: Exception | None = None) -> None:
    farm.context.registry.jobs.fail(
        job_id, error or DownloadFailed("cond_video: 404"), at_stage="downloads_started"
    )


# run and status


def test_a_job_is_accepted_and_waits_in_the_queue(client: Client):
    answer = client.post("run", {"input": FIELDS})

    assert answer.status == 200
    assert answer.body == {"id": answer.body["id"], "status": "IN_QUEUE"}


def test_a_job_in_the_queue_has_its_place(client: Client):
    first, second = (client.submit(FIELDS) for _ in range(2))

    assert client.get(f"status/{first}").body["output"]["queue_position"] == 1
    status = client.get(f"status/{second}").body
    assert status["status"] == "IN_QUEUE"
    assert status["output"]["queue_position"] == 2
    assert status["executionTime"] == 0


def test_a_running_job_shows_its_stage_its_percent_and_what_is_left(client: Client, farm: Farm):
    job_id = client.submit(FIELDS)
    acquire(farm.context.registry, "download", job_id=job_id)
    report(farm, job_id, eta_s=12.5, chunk=0)

    status = client.get(f"status/{job_id}").body

    assert status["status"] == "IN_PROGRESS"
    assert status["output"] == {
        "stage": "chunk_0_sampling_50",
        "pct": 30,
        "job_id": job_id,
        "details": {"eta_s": pytest.approx(12.5, abs=5), "chunk": 0},
        "warnings": [],
        "eta_s": pytest.approx(12.5, abs=5),
        "queue_position": None,
    }
    assert status["delayTime"] >= 0


def test_a_job_that_waits_for_its_next_step_has_a_place_again(client: Client, farm: Farm):
    job_id = client.submit(FIELDS)
    complete(farm.context.registry, "download", job_id=job_id)
    report(farm, job_id, "downloads_ok")
    farm.context.registry.steps.claim_dispatch(job_id, "embed")

    assert client.get(f"status/{job_id}").body["output"]["queue_position"] == 1


def test_a_finished_job_has_the_contracts_result(client: Client, farm: Farm):
    job_id = client.submit(FIELDS)
    report(farm, job_id)
    finish(farm, job_id)

    status = client.get(f"status/{job_id}").body

    assert status["status"] == "COMPLETED"
    assert status["output"]["video"]["url"] == "https://example.org/a.mp4"
    assert "error" not in status


def test_a_failed_job_has_the_contracts_error(client: Client, farm: Farm):
    job_id = client.submit(FIELDS)
    fail(farm, job_id)

    status = client.get(f"status/{job_id}").body

    assert status["status"] == "FAILED"
    assert status["error"]["code"] == "E_DOWNLOAD_FAILED"
    assert status["output"]["error"] == status["error"], "Runpod's Python client drops `error`"


def test_a_job_beyond_a_time_limit_is_timed_out(client: Client, farm: Farm):
    job_id = client.submit(FIELDS)
    fail(farm, job_id, TimedOut("ttl"))

    assert client.get(f"status/{job_id}").body["status"] == "TIMED_OUT"


def test_the_policy_becomes_limits_of_the_job(client: Client, farm: Farm):
    policy = {"executionTimeout": 60_000, "ttl": 120_000, "lowPriority": True}

    job_id = client.submit(FIELDS, policy=policy)

    limits = farm.context.registry.deadlines.limits(job_id)
    assert (limits.execution_s, limits.ttl_s) == (60, 120)
    assert farm.context.registry.jobs.request(job_id).priority == "low"


# Waiting


def test_runsync_answers_after_its_wait_with_a_job_that_goes_on(client: Client):
    answer = client.post("runsync?wait=1000", {"input": FIELDS})

    assert answer.status == 200
    assert answer.body["status"] == "IN_QUEUE"


def test_status_sync_answers_as_soon_as_the_job_ends(client: Client, farm: Farm):
    job_id = client.submit(FIELDS)
    finish(farm, job_id)

    assert client.get(f"status-sync/{job_id}?wait=300000").body["status"] == "COMPLETED"


@pytest.mark.parametrize("wait", ["999", "300001", "", "1e3", "-1", "٣٠٠٠", "9" * 5000])
def test_a_wait_out_of_range_is_refused(client: Client, wait: str):
    answer = client.send("GET", f"/v2/any/status-sync/{'0' * 32}?wait={wait}")

    assert answer.status == 400
    assert "allowed: milliseconds, 1000 to 300000" in answer.message


# stream


def chunk(farm: Farm, job_id: str, number: int) -> None:
    complete(farm.context.registry, f"generate-{number:04d}", job_id=job_id)


@pytest.fixture
def embedded(client: Client, farm: Farm) -> str:
    """A job with two chunks to make."""
    job_id = client.submit(FIELDS)
    output = output_of("embed")
    assert isinstance(output, EmbedOutput)
    complete(
        farm.context.registry,
        "embed",
        output.model_copy(update={"chunks": 2}),
        job_id=job_id,
    )
    report(farm, job_id)
    return job_id


def test_a_stream_has_each_chunk_once_and_then_the_result(
    client: Client, farm: Farm, embedded: str
):
    chunk(farm, embedded, 0)
    first = client.get(f"stream/{embedded}").body
    chunk(farm, embedded, 1)
    finish(farm, embedded)
    rest = client.get(f"stream/{embedded}").body
    nothing = client.get(f"stream/{embedded}").body

    assert first["status"] == "IN_PROGRESS"
    assert [part["output"]["chunk"] for part in first["stream"]] == [0]
    assert set(first["stream"][0]["output"]) == {
        *("chunk", "chunks", "frames", "init_url", "url", "job_id")
    }
    assert rest["status"] == "COMPLETED"
    assert [part["output"].get("chunk") for part in rest["stream"]] == [1, None]
    assert rest["stream"][1]["output"]["status"] == "success"
    assert nothing == {"status": "COMPLETED", "stream": []}


def test_the_stream_of_a_cancelled_job_ends_with_its_error(client: Client):
    job_id = client.submit(FIELDS)
    client.post(f"cancel/{job_id}")

    answer = client.get(f"stream/{job_id}").body

    assert answer["status"] == "CANCELLED"
    assert [part["output"]["error"]["code"] for part in answer["stream"]] == ["E_CANCELLED"]


# cancel, retry, purge, health


@pytest.mark.parametrize("body", [None, {}])
def test_cancel_ends_a_job_whatever_body_a_client_sends(client: Client, body: object):
    job_id = client.submit(FIELDS)

    answer = client.post(f"cancel/{job_id}", body)

    assert answer.body == {"id": job_id, "status": "CANCELLED"}
    assert client.post(f"cancel/{job_id}").body["status"] == "CANCELLED"


def test_retry_submits_the_request_of_a_failed_job_again(client: Client, farm: Farm):
    job_id = client.submit({**FIELDS, "base_seed": -1}, policy={"ttl": 60_000})
    fail(farm, job_id)

    again = client.post(f"retry/{job_id}").body

    assert again["status"] == "IN_QUEUE"
    assert again["id"] != job_id
    jobs = farm.context.registry.jobs
    assert jobs.request(again["id"]).digest == jobs.request(job_id).digest, "the seed as well"
    assert farm.context.registry.deadlines.limits(again["id"]).ttl_s == 60


def test_a_retry_that_is_repeated_makes_no_second_job_unless_it_failed(client: Client, farm: Farm):
    job_id = client.submit(FIELDS)
    fail(farm, job_id)
    again = client.post(f"retry/{job_id}").body["id"]
    assert client.post(f"retry/{job_id}").body["id"] == again

    fail(farm, again)

    assert client.post(f"retry/{job_id}").body["id"] not in (job_id, again)


def test_a_job_that_has_not_failed_is_not_retried(client: Client):
    answer = client.post(f"retry/{client.submit(FIELDS)}")

    assert answer.status == 409
    assert "the job is IN_QUEUE; allowed: one that is FAILED or TIMED_OUT" in answer.message


def test_purge_ends_the_jobs_that_have_not_started(client: Client, farm: Farm):
    started, *waiting = (client.submit(FIELDS) for _ in range(3))
    report(farm, started)

    assert client.post("purge-queue").body == {"removed": 2, "status": "completed"}
    assert client.get(f"status/{started}").body["status"] == "IN_PROGRESS"
    assert {client.get(f"status/{each}").body["status"] for each in waiting} == {"CANCELLED"}


def test_health_counts_the_jobs_and_the_workers(client: Client, farm: Farm):
    _, running, done, failed = (client.submit(FIELDS) for _ in range(4))
    report(farm, running)
    finish(farm, done)
    fail(farm, failed)
    farm.context.registry.workers.heartbeat("gpu host 1")

    health = client.get("health").body

    assert health["jobs"] == {
        "completed": 1,
        "failed": 1,
        "inProgress": 1,
        "inQueue": 1,
        "retried": 0,
    }
    assert health["workers"] == {
        "idle": 1,
        "initializing": 0,
        "ready": 1,
        "running": 0,
        "throttled": 0,
        "unhealthy": 0,
    }


# For operators


def test_probes_and_metrics_need_no_key(client: Client):
    assert client.send("GET", "/healthz").status == 200
    assert client.send("GET", "/readyz").status == 200
    client.get("status/none")
    metrics = client.send("GET", "/metrics").body
    assert 'farm_gateway_requests_total{route="status",status="404"} 1.0' in metrics
    assert 'farm_gateway_answer_seconds_count{route="status"} 1.0' in metrics
    assert 'farm_gateway_answer_seconds_bucket{le="300.0",route="status"} 1.0' in metrics
    assert "farm_gateway_waits 0.0" in metrics


def test_the_description_names_every_route_and_every_field(client: Client, farm: Farm):
    described = client.send("GET", "/openapi.json").body
    page = client.send("GET", "/docs").body

    served = {
        (route.path, method.lower())
        for route in Gateway(farm, is_open=True).routes()
        if route.path.startswith("/v")
        for method in route.methods - {"HEAD"}
    }
    assert {(path, each) for path, call in described["paths"].items() for each in call} == served
    assert "sample_steps" in described["components"]["schemas"]["JobRequest"]["properties"]
    for path, _ in served:
        assert path in page
