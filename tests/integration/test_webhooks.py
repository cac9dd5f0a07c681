"""Webhooks of jobs on a real farm, verified as receivers do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from farm import Farm, Job
from farm.job import Result
from farm.queue.dead_letters import require_redis
from tests.integration.conftest import ENDLESS, ONE_CHUNK
from tests.support.commands import environ_of, run_farm_command
from tests.support.receiver import SECRET, Receiver, receiver
from tests.support.small_farm import small_farm
from tests.support.waiting import wait_for, wait_for_stage

UNUSABLE = {"cond_video": "store://uploads/" + "0" * 64}
"""Fields of a job that fails in its first step."""


@pytest.fixture(scope="module")
def listening(certificate: Path) -> Iterator[Receiver]:
    with receiver(certificate) as hook:
        yield hook


@pytest.fixture
def hook(listening: Receiver) -> Receiver:
    """The receiver that the workers know, as if it had not been called yet."""
    listening.calls.clear()
    listening.then = 204
    return listening


@pytest.fixture(scope="module")
def farm(listening: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    home = tmp_path_factory.mktemp("home")
    retries = ",".join(["1"] * 1000)
    with small_farm(home, webhook_retry_delays_s=retries, **listening.settings) as supervisor:
        yield Farm(settings=supervisor.settings)


def is_delivered(farm: Farm, job: Job) -> bool:
    webhook_status = job.webhook()
    if webhook_status is None or webhook_status.state != "delivered":
        return False
    return job.id not in farm.context.registry.jobs.live()


def verified_body(hook: Receiver) -> Any:
    """The body of the only call."""
    (call,) = hook.calls
    return Webhook(hook.secret).verify(call.body, call.headers)


def test_a_finished_video_is_reported_once(
    farm: Farm, hook: Receiver, small: dict[str, Any]
) -> None:
    job = farm.submit({**small, **ONE_CHUNK}, webhook=hook.url)

    wait_for(lambda: is_delivered(farm, job))

    body = verified_body(hook)
    assert body.pop("omitted") == ["params"]
    assert Result.model_validate_json(json.dumps(body)) == job.result().model_copy(
        update={"params": {}}
    )
    assert body["video"]["mime"] == "video/mp4"


def test_a_failed_job_is_reported(farm: Farm, hook: Receiver, small: dict[str, Any]) -> None:
    job = farm.submit({**small, **UNUSABLE}, webhook=hook.url)

    wait_for(lambda: is_delivered(farm, job))

    body = verified_body(hook)
    assert (body["job_id"], body["status"]) == (job.id, "error")
    assert body["error"] == job.status().result.error.model_dump(mode="json")


def test_a_cancelled_job_is_reported(farm: Farm, hook: Receiver, small: dict[str, Any]) -> None:
    job = farm.submit({**small, **ENDLESS}, webhook=hook.url)
    wait_for_stage(job, "chunk_0_sampling")
    job.cancel(by="a test")

    wait_for(lambda: is_delivered(farm, job))

    assert verified_body(hook)["error"]["code"] == "E_CANCELLED"


def test_a_pending_call_outlives_a_broker_that_loses_everything(
    farm: Farm, hook: Receiver, small: dict[str, Any]
) -> None:
    hook.then = 503
    job = farm.submit({**small, **UNUSABLE}, webhook=hook.url)
    wait_for(lambda: len(hook.calls) >= 2)
    require_redis(farm.context.registry).redis.flushall()
    hook.then = 204
    recovered = {found.job_id: found.outcome for found in farm.recover()}
    assert recovered[job.id] == "already_ended"

    wait_for(lambda: is_delivered(farm, job))

    assert set(hook.ids()) == {f"msg_{job.id}"}


def test_the_status_shows_the_state_of_the_webhook(
    farm: Farm, hook: Receiver, small: dict[str, Any]
) -> None:
    hook.then = 410
    job = farm.submit({**small, **UNUSABLE}, webhook=hook.url)
    wait_for(lambda: hook.calls and job.id not in farm.context.registry.jobs.live())

    environ = environ_of(farm.context.settings)
    status = json.loads(run_farm_command(environ, "status", job.id, "--json").stdout)

    assert status["webhook"] == {"state": "failed", "attempts": 1, "reason": "HTTP 410"}
    assert status["state"] == "error"


def test_no_log_contains_the_secret_of_webhooks(farm: Farm, listening: Receiver) -> None:
    folder = farm.context.settings.folder / "logs"
    logs = {log.name: log.read_text() for log in folder.iterdir()}

    assert "webhook_delivered" in logs["cpu.log"]
    keys = [secret.removeprefix("whsec_") for secret in (SECRET, listening.secret)]
    assert [name for name, text in logs.items() if any(key in text for key in keys)] == []
