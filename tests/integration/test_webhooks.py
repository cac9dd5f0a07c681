"""Webhooks of jobs on a real farm, verified as receivers do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from standardwebhooks import Webhook

from farm import Farm, Job
from farm.local.supervisor import open_supervisor
from farm.settings import Settings
from tests.integration.test_farm import eventually
from tests.support.receiver import SECRET, Receiver, receiver


@pytest.fixture(scope="module")
def listening(certificate: Path) -> Iterator[Receiver]:
    with receiver(certificate) as hook:
        yield hook


@pytest.fixture
def hook(listening: Receiver) -> Receiver:
    """The receiver that the workers know, as if nobody had called it yet."""
    listening.calls.clear()
    listening.then = 204
    return listening


@pytest.fixture(scope="module")
def farm(listening: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A farm whose workers find their secret by the environment, as workers do."""
    quick = {"FARM_LEASE_S": "3", "FARM_REAP_EVERY_S": "1", "FARM_WEBHOOK_PAUSES_S": ",".join(["1"] * 60)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**quick, **listening.environ, "FARM_HOME": str(tmp_path_factory.mktemp("home"))}.items():
            patch.setenv(name, value)
        with open_supervisor(Settings.load(os.environ)) as supervisor:
            yield Farm(settings=supervisor.settings)


def delivered(farm: Farm, job: Job) -> bool:
    notice = job.webhook()
    return notice is not None and notice.state == "delivered" and job.id not in farm.context.registry.jobs.live()


def told(hook: Receiver) -> Any:
    (call,) = hook.calls
    return Webhook(SECRET).verify(call.body, call.headers)


def test_a_finished_video_is_told_once(farm: Farm, hook: Receiver, small: dict[str, Any]) -> None:
    job = farm.submit({**small, "max_frame_num": 21}, webhook=hook.url)

    eventually(lambda: delivered(farm, job), 120)

    assert told(hook) == job.result().model_dump(mode="json")
    assert told(hook)["video"]["mime"] == "video/mp4"


def test_a_job_that_failed_is_told(farm: Farm, hook: Receiver, small: dict[str, Any]) -> None:
    job = farm.submit({**small, "cond_video": "data:image/png;base64,AAAA"}, webhook=hook.url)

    eventually(lambda: delivered(farm, job))

    assert (told(hook)["job_id"], told(hook)["status"]) == (job.id, "error")
    assert told(hook)["error"] == job.status().result.error.model_dump(mode="json")


def test_a_job_that_was_cancelled_is_told(farm: Farm, hook: Receiver, small: dict[str, Any]) -> None:
    job = farm.submit({**small, "sample_steps": 1000}, webhook=hook.url)
    eventually(lambda: "sampling" in job.status().stage)
    job.cancel(by="a test")

    eventually(lambda: delivered(farm, job))

    assert told(hook)["error"]["code"] == "E_CANCELLED"


def test_a_call_outlives_a_broker_that_loses_everything(farm: Farm, hook: Receiver, small: dict[str, Any]) -> None:
    hook.then = 503
    job = farm.submit({**small, "cond_video": "data:image/png;base64,AAAA"}, webhook=hook.url)
    eventually(lambda: len(hook.calls) >= 2)
    with redis.Redis.from_url(farm.context.settings.broker_address) as client:
        client.flushall()
    hook.then = 204
    assert {found.outcome for found in farm.recover() if found.job_id == job.id} == {"had ended"}

    eventually(lambda: delivered(farm, job))

    assert set(hook.ids()) == {f"msg_{job.id}"}


def test_status_shows_what_became_of_the_call(farm: Farm, hook: Receiver, small: dict[str, Any]) -> None:
    hook.then = 410
    job = farm.submit({**small, "cond_video": "data:image/png;base64,AAAA"}, webhook=hook.url)
    eventually(lambda: hook.calls and job.id not in farm.context.registry.jobs.live())
    environ = {**os.environ, "FARM_BROKER_URL": farm.context.settings.broker_address}

    command = [sys.executable, "-m", "farm", "status", job.id, "--json"]
    shown = subprocess.run(command, env=environ, capture_output=True, exposition=True, check=True).stdout

    assert json.loads(shown)["webhook"] == {"state": "given up", "tries": 1, "reason": "answered 410"}
    assert json.loads(shown)["state"] == "error"


def test_no_log_holds_the_secret_of_webhooks(farm: Farm) -> None:
    logs = {log.name: log.read_text() for log in (farm.context.settings.folder / "logs").iterdir()}

    assert "webhook_delivered" in logs["cpu.log"]
    assert [name for name, exposition in logs.items() if SECRET.removeprefix("whsec_") in exposition] == []
