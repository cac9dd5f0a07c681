"""The farm's own API: jobs as resources."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from farm.client import Farm
from farm.errors import DownloadFailed
from farm.gateway.call import Call
from farm.gateway.v1.calls import CALLS
from farm.job import Result
from farm.settings import Settings
from farm.store import keys
from tests.conftest import EXAMPLES
from tests.support.gateway import POOL, Answer, Client, running_gateway
from tests.support.jobs import FIELDS
from tests.unit.gateway.conftest import Key


def data_uri(path: Path) -> str:
    return f"data:audio/wav;base64,{b64encode(path.read_bytes()).decode()}"


RESULT = Result.model_validate({"job_id": "a", "status": "success"})


def submit(client: Client, fields: Any = FIELDS) -> Answer:
    return client.send("POST", "/v1/jobs", json.dumps(fields).encode())


# Submitting


def test_a_job_is_created_and_says_where_it_is(client: Client):
    answer = submit(client)

    job_id = answer.body["job_id"]
    assert answer.status == 201
    assert answer.headers["Location"] == f"/v1/jobs/{job_id}"
    assert answer.body["state"] == "queued"
    assert answer.body["queue_position"] == 1
    links = answer.body["links"]
    assert (links["job"], links["content"]) == (f"/v1/jobs/{job_id}", None)
    assert links["events"].startswith(f"/v1/jobs/{job_id}/events?until=")
    assert links["playlist"].startswith(f"/v1/jobs/{job_id}/playlist.m3u8?until=")


def test_the_same_idempotency_key_returns_the_first_job(client: Client):
    first, again = (submit(client, {**FIELDS, "idempotency_key": "a"}) for _ in range(2))

    assert first.body["job_id"] == again.body["job_id"]


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({**FIELDS, "promt": "a"}, 422, "promt"),
        ({"prompt": "a"}, 422, "cond_video"),
        ({**FIELDS, "sample_steps": 0}, 422, "sample_steps"),
        ({**FIELDS, "cond_audio": {"person1": 1}}, 422, "cond_audio.person1"),
        ({"input": FIELDS}, 422, "input"),
        ([], 400, "body"),
    ],
)
def test_a_wrong_request_is_refused_by_its_field(
    client: Client, fields: Any, status: int, field: str
):
    answer = submit(client, fields)

    assert (answer.status, answer.field) == (status, field)
    assert answer.body["error"]["code"] == "E_INPUT_VALIDATION"


def test_a_used_idempotency_key_is_a_conflict(client: Client):
    submit(client, {**FIELDS, "idempotency_key": "a"})

    answer = submit(client, {**FIELDS, "idempotency_key": "a", "prompt": "another"})

    assert (answer.status, answer.field) == (409, "idempotency_key")


def with_key(client: Client, key: str, fields: Any = FIELDS) -> Answer:
    body = json.dumps(fields).encode()
    return client.send("POST", "/v1/jobs", body, **{"Idempotency-Key": key})


def test_the_idempotency_key_may_be_a_header(client: Client):
    first, again = with_key(client, "a"), with_key(client, "a")
    in_body = submit(client, {**FIELDS, "idempotency_key": "a"})
    both = with_key(client, "a", {**FIELDS, "idempotency_key": "a"})

    job_ids = {each.body["job_id"] for each in (first, again, in_body, both)}
    assert job_ids == {first.body["job_id"]}


@pytest.mark.parametrize(
    ("key", "fields", "status", "field"),
    [
        ("a", {**FIELDS, "prompt": "another"}, 409, "Idempotency-Key"),
        ("", FIELDS, 422, "Idempotency-Key"),
        ("k" * 201, FIELDS, 422, "Idempotency-Key"),
        ("a", {**FIELDS, "idempotency_key": "b"}, 422, "idempotency_key"),
        ("a", {**FIELDS, "idempotency_key": None}, 422, "idempotency_key"),
    ],
)
def test_a_wrong_idempotency_key_is_refused_by_its_place(
    client: Client, key: str, fields: Any, status: int, field: str
):
    with_key(client, "a")

    answer = with_key(client, key, fields)

    assert (answer.status, answer.field) == (status, field)


def test_a_job_has_the_time_limits_of_the_query(client: Client, farm: Farm):
    body = json.dumps(FIELDS).encode()

    answer = client.send("POST", "/v1/jobs?ttl_s=3600&execution_s=0.5", body)

    limits = farm.context.registry.deadlines.limits(answer.body["job_id"])
    assert (limits.ttl_s, limits.execution_s) == (3600, 0.5)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("ttl_s=0", "ttl_s: got 0; it must be above 0; allowed: seconds from a job's submission"),
        ("execution_s=1h", "execution_s: got '1h'; it must be a number; allowed: seconds"),
        ("ttl_s=NaN", "ttl_s: got NaN; it must be a finite number; allowed: "),
        ("ttl_s=", "ttl_s: got ''; it must be a number; allowed: "),
        ("ttl=60", "query: got 'ttl'; allowed: ttl_s, execution_s"),
        ("ttl_s=60&ttl_s=61", "ttl_s: it is given twice; allowed: once"),
    ],
)
def test_a_wrong_time_limit_is_refused(client: Client, query: str, message: str):
    answer = client.send("POST", f"/v1/jobs?{query}", json.dumps(FIELDS).encode())

    assert answer.status == 422
    assert answer.message.startswith(message)


def test_a_quota_is_429(client: Client, key: Key):
    anna = key("anna", max_live_jobs=1)
    submit(anna)

    answer = submit(anna)

    assert (answer.status, answer.body["error"]["code"]) == (429, "E_QUOTA")


def test_a_body_of_another_type_is_refused(client: Client):
    answer = client.send("POST", "/v1/jobs", b"a=b", **{"Content-Type": "text/plain; charset=a"})

    assert answer.status == 415
    assert "Content-Type: got 'text/plain'; allowed: application/json" in answer.message


# Estimating


def test_an_estimate_says_what_a_job_would_take_and_submits_none(client: Client):
    fields = {**FIELDS, "cond_audio": {"person1": data_uri(EXAMPLES / "speech.wav")}}

    answer = client.send("POST", "/v1/estimates", json.dumps(fields).encode())

    assert answer.status == 200, answer.body
    assert (answer.body["length"], answer.body["chunks"]) == ("known", 3)
    assert answer.body["gpu_s"] > 0
    assert "3 chunks" in answer.body["summary"]
    assert pages(client) == [[]]


def test_what_would_be_refused_is_not_estimated(client: Client, key: Key):
    anna = key("anna", highest_priority="low")
    wrong = [
        {**FIELDS, "promt": "a"},
        {**FIELDS, "cond_video": "/etc/passwd"},
        {**FIELDS, "cond_video": "http://127.0.0.1/face.png"},
        {**FIELDS, "priority": "high"},
    ]

    answers = [anna.send("POST", "/v1/estimates", json.dumps(each).encode()) for each in wrong]

    found = [(answer.status, answer.field) for answer in answers]
    assert found == [
        (422, "promt"),
        (422, "cond_video"),
        (422, "cond_video"),
        (422, "priority"),
    ]


def test_the_voices_of_a_language_are_listed(client: Client):
    german = client.send("GET", "/v1/voices?language=german").body["voices"]
    wrong = client.send("GET", "/v1/voices?language=klingonese")

    assert {"de", "espeak-ng"} <= set(german[0].values())
    assert (wrong.status, wrong.field) == (422, "language")
    assert len(client.send("GET", "/v1/voices").body["voices"]) > 100


# One job


def test_a_finished_job_has_its_result_and_where_the_video_is(client: Client, farm: Farm):
    job_id = client.submit_v1(FIELDS)
    farm.context.registry.jobs.end(job_id, "success", RESULT)

    job = client.send("GET", f"/v1/jobs/{job_id}").body

    assert (job["state"], job["stage"], job["pct"]) == ("success", "completed", 100)
    assert job["result"]["status"] == "success"
    assert job["links"]["content"].startswith(f"/v1/jobs/{job_id}/content?until=")
    assert (job["eta_s"], job["queue_position"]) == (None, None)


def test_a_failed_job_has_its_error(client: Client, farm: Farm):
    job_id = client.submit_v1(FIELDS)
    error = DownloadFailed("cond_video: 404")
    farm.context.registry.jobs.fail(job_id, error, at_stage="downloads_started")

    job = client.send("GET", f"/v1/jobs/{job_id}").body

    assert job["state"] == "error"
    assert job["result"]["error"]["code"] == "E_DOWNLOAD_FAILED"
    assert job["details"] == {"code": "E_DOWNLOAD_FAILED", "message": "cond_video: 404"}


def test_a_job_tells_the_delivery_of_its_webhook(broker: str, tmp_path: Path):
    secret = ("whsec_" + "A" * 40,)
    settings = Settings(home=tmp_path, broker_url=broker, webhook_secret=secret)
    farm = Farm(settings=settings, local_files=False)
    with running_gateway(farm) as client:
        job_id = client.submit_v1({**FIELDS, "webhook": "https://example.org/done"})
        jobs = [client.send("GET", f"/v1/jobs/{job_id}").body]
        farm.context.registry.jobs.end(job_id, "success", RESULT)
        jobs.append(client.send("GET", f"/v1/jobs/{job_id}").body)

    assert [job["webhook"] for job in jobs] == [
        None,
        {"state": "pending", "attempts": 0, "reason": None},
    ]


def test_cancel_ends_a_job_and_leaves_one_that_has_ended(client: Client, farm: Farm):
    waiting, done = (client.submit_v1(FIELDS) for _ in range(2))
    farm.context.registry.jobs.end(done, "success", RESULT)

    paths = [f"/v1/jobs/{each}/cancel" for each in (waiting, waiting, done)]
    answers = [client.send("POST", path, b"") for path in paths]

    assert [answer.status for answer in answers] == [200] * 3
    assert [answer.body["state"] for answer in answers] == ["cancelled", "cancelled", "success"]


def test_delete_removes_a_job_for_good(client: Client, farm: Farm):
    voice = data_uri(EXAMPLES / "speech.wav")
    fields = {**FIELDS, "cond_audio": {"person1": voice}}
    waiting, done = (client.submit_v1({**fields, "prompt": each}) for each in ("a", "b"))
    farm.context.registry.jobs.end(done, "success", RESULT)

    answers = [client.send("DELETE", f"/v1/jobs/{each}") for each in (waiting, done, done)]

    assert [(answer.status, answer.content) for answer in answers[:2]] == [(204, b"")] * 2
    assert answers[2].status == 404
    assert client.send("GET", "/v1/jobs").body["jobs"] == []
    assert [key for key in farm.context.store.keys("") if key != keys.FARM] == []


def test_the_events_of_a_job_end_when_it_is_deleted(client: Client):
    job_id = client.submit_v1(FIELDS)
    url = f"{client.url}/v1/jobs/{job_id}/events"
    response = POOL.request("GET", url, preload_content=False)

    client.send("DELETE", f"/v1/jobs/{job_id}")

    response.read()  # to its end
    assert client.send("GET", f"/v1/jobs/{job_id}/events").status == 404


def retry(client: Client, job_id: str) -> Answer:
    return client.send("POST", f"/v1/jobs/{job_id}/retry", b"")


def test_a_job_without_a_video_is_submitted_again(client: Client, farm: Farm):
    body = json.dumps({**FIELDS, "base_seed": -1}).encode()
    failed = client.send("POST", "/v1/jobs?ttl_s=60", body).body["job_id"]
    cancelled = client.submit_v1(FIELDS)
    farm.context.registry.jobs.fail(failed, DownloadFailed("404"), at_stage="downloads_started")
    farm.context.registry.jobs.cancel(cancelled, by="a test")

    for job_id in (failed, cancelled):
        first, again = retry(client, job_id), retry(client, job_id)
        new_id = first.body["job_id"]

        assert (first.status, first.headers["Location"]) == (201, f"/v1/jobs/{new_id}")
        assert first.body["state"] == "queued"
        assert job_id != new_id == again.body["job_id"]
        registry = farm.context.registry
        assert registry.jobs.request(new_id).digest == registry.jobs.request(job_id).digest
        assert registry.deadlines.limits(new_id) == registry.deadlines.limits(job_id)


def test_a_job_with_a_video_or_without_an_end_is_not_retried(client: Client, farm: Farm):
    waiting, done = (client.submit_v1(FIELDS) for _ in range(2))
    farm.context.registry.jobs.end(done, "success", RESULT)

    answers = [retry(client, each) for each in (waiting, done)]

    assert [answer.status for answer in answers] == [409, 409]
    assert answers[1].message == "id: the job is success; allowed: one that is error or cancelled"


def test_a_retry_beyond_what_the_key_allows_is_refused(client: Client, farm: Farm, key: Key):
    job_id = key("anna", highest_priority="high").submit_v1({**FIELDS, "priority": "high"})
    farm.context.registry.jobs.cancel(job_id, by="a test")
    low, full = key("anna", highest_priority="low"), key("anna", max_live_jobs=0)

    answers = [retry(each, job_id) for each in (low, full)]

    assert [answer.status for answer in answers] == [422, 429]


# Whose


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("DELETE", ""), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/retry")],
)
def test_a_foreign_job_is_answered_like_one_that_does_not_exist(
    client: Client, key: Key, method: str, path: str
):
    anna, bert = key("anna"), key("bert")
    foreign = anna.submit_v1(FIELDS)
    unknown = "0" * 32

    answers = [bert.send(method, f"/v1/jobs/{each}{path}") for each in (foreign, unknown)]

    assert [answer.status for answer in answers] == [404, 404]
    assert answers[0].message.replace(foreign, unknown) == answers[1].message
    assert anna.send("GET", f"/v1/jobs/{foreign}").body["state"] == "queued"


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_every_call_needs_a_key_once_there_is_one(client: Client, key: Key, call: Call):
    key("anna")

    answer = client.send(call.method.upper(), re.sub("{.*?}", "0", call.path))

    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


# The list


def pages(client: Client, query: str = "") -> list[list[str]]:
    """The ids of each page."""
    found = []
    cursor = ""
    while True:
        page = client.send("GET", f"/v1/jobs?{query}{cursor}").body
        found.append([job["job_id"] for job in page["jobs"]])
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def test_jobs_are_listed_in_pages_the_newest_first(client: Client):
    job_ids = [client.submit_v1(FIELDS) for _ in range(5)][::-1]

    assert pages(client, "limit=2") == [job_ids[:2], job_ids[2:4], job_ids[4:]]
    assert pages(client, "limit=5") == [job_ids]


def test_a_job_that_comes_between_two_pages_moves_none(client: Client):
    job_ids = [client.submit_v1(FIELDS) for _ in range(3)][::-1]
    first = client.send("GET", "/v1/jobs?limit=1").body
    client.submit_v1(FIELDS)

    rest = client.send("GET", f"/v1/jobs?cursor={first['next_cursor']}").body

    assert [job["job_id"] for job in rest["jobs"]] == job_ids[1:]


def test_a_list_has_the_jobs_of_one_state(client: Client, farm: Farm):
    job_ids = [client.submit_v1(FIELDS) for _ in range(4)]
    for each in job_ids[::2]:
        farm.context.registry.jobs.cancel(each, by="a test")

    assert pages(client, "limit=1&state=cancelled") == [[job_ids[2]], [job_ids[0]]]
    assert pages(client, "state=success") == [[]]


def test_a_list_has_ones_own_jobs_only(client: Client, key: Key):
    anna, bert = key("anna"), key("bert")
    own = anna.submit_v1(FIELDS)
    bert.submit_v1(FIELDS)

    assert pages(anna) == [[own]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=٣", "limit"),
        ("state=done", "state"),
        ("cursor=1", "cursor"),
        (f"cursor=1e9-{'0' * 32}", "cursor"),
        ("page=2", "query"),
        ("limit=1&limit=2", "limit"),
    ],
)
def test_a_wrong_query_is_refused(client: Client, query: str, field: str):
    answer = client.send("GET", f"/v1/jobs?{query}")

    assert (answer.status, answer.field) == (422, field)
