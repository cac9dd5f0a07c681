"""Tenants: each by its key, with what its key allows, and with its own jobs alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farm.client import Farm
from farm.errors import DownloadFailed
from farm.settings import Settings
from tests.support.gateway import Client, running_gateway
from tests.support.jobs import FIELDS
from tests.unit.gateway.conftest import Key

KEYED = {**FIELDS, "idempotency_key": "order 66"}


# Keys


def test_a_key_is_accepted_with_and_without_bearer(client: Client, key: Key):
    anna = key("anna")
    bare = Client(client.url, headers={"Authorization": str(anna.key)})

    assert anna.get("health").status == 200
    assert bare.get("health").status == 200


def test_once_there_is_a_key_every_request_needs_one(client: Client, key: Key):
    assert client.get("health").status == 200
    key("anna")

    answer = client.get("health")

    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_a_wrong_key_and_a_revoked_one_get_the_same_answer(client: Client, key: Key, farm: Farm):
    key("anna")
    revoked = key("bob")
    registry = farm.context.registry.keys
    registry.revoke(next(each.key.id for each in registry.all() if each.key.caller == "bob"))

    answers = [revoked.get("health"), Client(client.url, "itf_wrong").get("health")]

    assert [answer.status for answer in answers] == [401, 401]
    assert answers[0].body == answers[1].body


def test_revoking_the_last_key_ends_its_use_and_opens_nothing(key: Key, farm: Farm):
    anna = key("anna")
    assert anna.get("health").status == 200

    (known,) = farm.context.registry.keys.all()
    farm.context.registry.keys.revoke(known.key.id)

    assert anna.get("health").status == 401
    assert Client(anna.url).get("health").status == 401


def test_the_list_of_keys_says_which_was_used(key: Key, farm: Farm):
    key("bob")
    key("anna").get("health")

    used = {each.key.caller: each.used_at for each in farm.context.registry.keys.all()}

    assert used["bob"] is None
    assert used["anna"] is not None


@pytest.mark.parametrize(
    ("method", "call"),
    [("POST", "run"), ("POST", "runsync"), ("GET", "status/{id}"), ("GET", "stream/{id}")],
)
def test_a_first_key_beside_a_folder_gets_no_path_of_this_machine(
    broker: str, tmp_path: Path, method: str, call: str
):
    settings = Settings(home=tmp_path / "home", broker_url=broker, caller="anna")
    farm = Farm(settings=settings, local_files=False)
    with running_gateway(farm) as client:
        job_id = client.submit(FIELDS)
        secret, _ = farm.context.registry.keys.create("anna")
        body = json.dumps({"input": FIELDS}).encode() if method == "POST" else None

        answer = Client(client.url, secret).send(method, f"/v2/any/{call.format(id=job_id)}", body)

    assert answer.status == 503
    assert "cannot read; allowed: s3://bucket/prefix, or the calls under /v1" in answer.message
    assert str(tmp_path) not in json.dumps(answer.body)


# What a key allows


def test_a_rate_is_kept_and_the_answer_says_when_to_come_back(key: Key):
    anna = key("anna", rate_per_minute=2)
    bob = key("bob", rate_per_minute=2)

    answers = [anna.get("health") for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 429]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 30
    assert answers[-1].body["error"]["code"] == "E_QUOTA"
    assert bob.get("health").status == 200


def test_a_key_bounds_the_jobs_that_have_not_ended(key: Key):
    anna = key("anna", max_live_jobs=1)
    job_id = anna.submit(FIELDS)

    refused = anna.post("run", {"input": FIELDS})
    anna.post(f"cancel/{job_id}")

    assert refused.status == 429
    assert refused.body["error"]["retryable"]
    assert "allowed: 1; try again" in refused.message  # and no setting, which is not the reason
    assert anna.post("run", {"input": FIELDS}).status == 200


def test_a_budget_of_gpu_seconds_says_when_it_begins_anew(key: Key, farm: Farm):
    anna = key("anna", max_gpu_s_per_day=1e6)
    farm.context.registry.accounts.charge("anna", 1e6)

    refused = anna.post("run", {"input": FIELDS})

    assert refused.status == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 86_400
    assert "FARM_" not in refused.message


@pytest.mark.parametrize(
    ("highest", "priority", "status"),
    [
        ("low", "low", 200),
        ("low", "normal", 400),
        ("normal", "normal", 200),
        ("normal", "high", 400),
        ("high", "high", 200),
    ],
)
def test_a_key_bounds_the_priority(key: Key, highest: str, priority: str, status: int):
    answer = key("anna", highest_priority=highest).post(
        "run", {"input": {**FIELDS, "priority": priority}}
    )

    assert answer.status == status


def test_a_key_of_low_priority_need_not_name_it(key: Key, farm: Farm):
    anna = key("anna", highest_priority="low")

    job_id = anna.submit(FIELDS)

    assert farm.context.registry.jobs.request(job_id).priority == "low"


# Whose a job is


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("GET", "status"),
        ("GET", "status-sync"),
        ("GET", "stream"),
        ("POST", "cancel"),
        ("POST", "retry"),
    ],
)
def test_the_job_of_another_tenant_is_unknown(key: Key, farm: Farm, method: str, call: str):
    anna, bob = key("anna"), key("bob")
    job_id = anna.submit(FIELDS)
    farm.context.registry.jobs.fail(job_id, DownloadFailed("404"), at_stage="queued")

    foreign = bob.send(method, f"/v2/any/{call}/{job_id}")
    absent = bob.send(method, f"/v2/any/{call}/{'0' * 32}")

    assert (foreign.status, absent.status) == (404, 404)
    assert foreign.message.replace(job_id, "0" * 32) == absent.message


def test_purge_and_health_are_of_ones_own_jobs(key: Key):
    anna, bob = key("anna"), key("bob")
    job_id = anna.submit(FIELDS)

    assert bob.post("purge-queue").body["removed"] == 0
    assert bob.get("health").body["jobs"]["inQueue"] == 0
    assert anna.get(f"status/{job_id}").body["status"] == "IN_QUEUE"


def test_an_idempotency_key_is_a_tenants_own(key: Key):
    anna, bob = key("anna"), key("bob")

    first = anna.submit(KEYED)

    assert anna.submit(KEYED) == first
    assert bob.submit(KEYED) != first


def test_two_keys_of_one_caller_see_the_same_jobs(key: Key):
    job_id = key("anna").submit(FIELDS)

    assert key("anna").get(f"status/{job_id}").status == 200


# Without keys, for the browser of this machine's user


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
    ],
)
def test_without_a_key_no_web_page_is_answered(
    client: Client, headers: dict[str, str], status: int
):
    assert client.send("POST", "/v2/any/purge-queue", b"", **headers).status == status
