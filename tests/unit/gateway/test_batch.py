"""Several videos under one id: the contract's batch as one job of Runpod's."""

from __future__ import annotations

from typing import Any

import pytest

from farm.client import Farm
from farm.errors import DownloadFailed
from farm.job import Event, Result
from tests.support.gateway import Client
from tests.support.jobs import FIELDS
from tests.unit.gateway.conftest import Key

INVALID = {**FIELDS, "promt": "a typing error"}


def submit(client: Client, *items: Any, **envelope: Any) -> str:
    return client.submit({"batch": list(items)}, **envelope)


def jobs_of(farm: Farm, batch_id: str) -> list[str]:
    batch = farm.context.registry.batches.read(batch_id)
    assert batch is not None
    return batch.job_ids


def start(farm: Farm, job_id: str) -> None:
    farm.context.registry.jobs.report(Event(stage="embeddings_ok", pct=15, job_id=job_id))


def finish(farm: Farm, job_id: str) -> None:
    result = Result(job_id=job_id, status="success")
    farm.context.registry.jobs.end(job_id, "success", result)


def fail(farm: Farm, job_id: str) -> None:
    error = DownloadFailed("cond_video: 404")
    farm.context.registry.jobs.fail(job_id, error, at_stage="downloads_started")


def test_a_batch_is_under_way_until_its_last_job_has_ended(client: Client, farm: Farm):
    batch_id = submit(client, FIELDS, {**FIELDS, "id": "second"})
    first, second = jobs_of(farm, batch_id)
    assert client.get(f"status/{batch_id}").body["status"] == "IN_QUEUE"
    start(farm, first)

    status = client.get(f"status/{batch_id}").body

    assert (status["status"], status["output"]["pct"]) == ("IN_PROGRESS", 7.5)
    assert status["output"]["details"]["items"] == [
        {"id": "item-0", "job_id": first, "stage": "embeddings_ok", "pct": 15, "warnings": []},
        {"id": "second", "job_id": second, "stage": "queued", "pct": 0, "warnings": []},
    ]
    finish(farm, first)
    assert client.get(f"status/{batch_id}").body["status"] == "IN_PROGRESS"
    finish(farm, second)
    assert client.get(f"status/{batch_id}").body["status"] == "COMPLETED"


def test_a_failed_item_among_good_ones_is_a_partial_result(client: Client, farm: Farm):
    batch_id = submit(client, INVALID, FIELDS, "no object", FIELDS)
    good, bad = jobs_of(farm, batch_id)
    finish(farm, good)
    fail(farm, bad)

    status = client.get(f"status-sync/{batch_id}").body

    assert (status["status"], status["output"]["status"]) == ("COMPLETED", "partial")
    results = [item["result"] for item in status["output"]["items"]]
    assert [item["id"] for item in status["output"]["items"]] == [
        *("item-0", "item-1", "item-2", "item-3")
    ]
    assert [each["status"] for each in results] == ["error", "success", "error", "error"]
    assert "did you mean prompt" in results[0]["error"]["message"]
    assert results[3]["error"]["code"] == "E_DOWNLOAD_FAILED"


def test_a_batch_without_a_video_has_failed(client: Client):
    batch_id = submit(client, INVALID)

    status = client.get(f"status/{batch_id}").body

    assert (status["status"], status["output"]["status"]) == ("FAILED", "error")
    assert status["error"]["code"] == "E_INPUT_VALIDATION"


def test_cancel_ends_the_jobs_that_have_not_ended(client: Client, farm: Farm):
    batch_id = submit(client, FIELDS, FIELDS)
    first, second = jobs_of(farm, batch_id)

    assert client.post(f"cancel/{batch_id}").body["status"] == "CANCELLED"
    assert client.get(f"status/{first}").body["status"] == "CANCELLED"
    assert client.get(f"status/{second}").body["status"] == "CANCELLED"


def test_the_policy_and_the_key_are_those_of_each_item(key: Key, farm: Farm):
    anna = key("anna", max_live_jobs=2)

    batch_id = submit(anna, FIELDS, FIELDS, FIELDS, policy={"ttl": 60_000, "lowPriority": True})

    first, second = jobs_of(farm, batch_id)
    assert farm.context.registry.deadlines.limits(first).ttl_s == 60
    assert farm.context.registry.jobs.request(second).priority == "low"
    batch = farm.context.registry.batches.read(batch_id)
    assert batch is not None
    assert batch.items[2].error is not None
    assert batch.items[2].error.code == "E_QUOTA"


def test_a_stream_has_each_result_once_and_then_that_of_the_batch(client: Client, farm: Farm):
    batch_id = submit(client, FIELDS, FIELDS)
    first, second = jobs_of(farm, batch_id)
    finish(farm, first)

    begun = client.get(f"stream/{batch_id}").body
    finish(farm, second)
    rest = client.get(f"stream/{batch_id}").body

    assert [part["output"]["id"] for part in begun["stream"]] == ["item-0"]
    assert begun["status"] == "IN_PROGRESS"
    assert [part["output"].get("id") for part in rest["stream"]] == ["item-1", None]
    assert rest["stream"][1]["output"]["status"] == "success"
    assert client.get(f"stream/{batch_id}").body["stream"] == []


def test_the_batch_of_another_tenant_is_unknown(key: Key):
    batch_id = submit(key("anna"), FIELDS)
    bob = key("bob")

    for method, call in (("GET", "status"), ("GET", "stream"), ("POST", "cancel")):
        assert bob.send(method, f"/v2/any/{call}/{batch_id}").status == 404


def test_a_batch_is_not_retried_as_a_whole(client: Client):
    answer = client.post(f"retry/{submit(client, INVALID)}")

    assert answer.status == 409
    assert "it is a batch; allowed: the job_id of one of its items" in answer.message


@pytest.mark.parametrize("name", [1, None, "item-0", "x" * 201])
def test_an_id_that_is_taken_or_no_text_is_the_items_own_error(
    client: Client, farm: Farm, name: Any
):
    batch_id = submit(client, FIELDS, {**FIELDS, "id": name})

    batch = farm.context.registry.batches.read(batch_id)

    assert batch is not None
    assert [item.id for item in batch.items] == ["item-0", "item-1"]
    assert batch.items[1].error is not None
    assert "batch.1.id: got" in batch.items[1].error.message
