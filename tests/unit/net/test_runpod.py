"""Runpod's queue API: what is sent, what is repeated, and what an answer becomes."""

from __future__ import annotations

import time
from typing import Any

import pytest

from farm.errors import InvalidInput, QuotaExceeded
from farm.net import runpod
from farm.net.runpod import QueueApi, RequestRefused, RunpodUnreachable
from tests.support.api_server import ApiServer
from tests.support.ports import free_port

KEY = "rpa_TESTKEY0123"
RUN = "POST /v2/ep/run"
ACCEPTED = {"id": "job-1", "status": "IN_QUEUE"}


@pytest.fixture
def api(server: ApiServer) -> QueueApi:
    return QueueApi.of_endpoint(server.url, "ep", KEY)


@pytest.fixture
def impatient(server: ApiServer) -> QueueApi:
    """A client that repeats nothing, because the first delay is longer than it tries."""
    return QueueApi(f"{server.url}/ep", KEY, retry_s=0)


# What is sent


def test_a_job_is_posted_once_with_the_key(server, api):
    server.script(RUN, ACCEPTED)
    assert api.run({"input": {"prompt": "a woman talks"}}) == "job-1"
    (request,) = server.requests
    assert (str(request), request.json) == (RUN, {"input": {"prompt": "a woman talks"}})
    assert request.headers["Authorization"] == f"Bearer {KEY}"


def test_a_slash_at_the_end_of_the_base_url_is_not_doubled(server):
    server.script(RUN, ACCEPTED)
    assert QueueApi.of_endpoint(f"{server.url}/", "ep", KEY).run({}) == "job-1"


def test_an_id_is_quoted(server, api):
    assert api.status("../purge-queue?x=1") is None
    assert [str(each) for each in server.requests] == ["GET /v2/ep/status/..%2Fpurge-queue%3Fx%3D1"]


@pytest.mark.parametrize("job_id", ["", ".", ".."])
def test_an_id_that_would_lead_to_another_path_is_unknown_and_not_sent(server, api, job_id):
    assert (api.status(job_id), api.cancel(job_id), api.stream(job_id)) == (None, False, None)
    assert server.requests == []


@pytest.mark.parametrize("key", ["", "two words", "line\n", "schl\u00fcssel", "tab\t"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(key):
    with pytest.raises(InvalidInput, match=r"^RUNPOD_API_KEY: got a secret") as caught:
        QueueApi.of_endpoint("http://127.0.0.1:1", "ep", key)
    assert not key or key not in caught.value.message


# What an answer becomes


def test_a_status_has_its_times_and_its_output(server, api):
    fields = {"delayTime": 1200, "executionTime": 3400, "workerId": "w", "new": 1}
    server.script(
        "GET /v2/ep/status/job-1",
        {"id": "job-1", "status": "COMPLETED", "output": {"a": 1}, **fields},
    )
    status = api.status("job-1")
    assert (status.ended, status.output, status.error) == (True, {"a": 1}, None)
    assert (status.delay_ms, status.execution_ms, status.worker_id) == (1200, 3400, "w")


@pytest.mark.parametrize(("given", "read"), [(None, 0), (12.6, 13)])
def test_a_time_may_be_null_or_a_fraction(server, api, given, read):
    server.script("GET /v2/ep/status/j", {"id": "j", "status": "IN_QUEUE", "delayTime": given})
    assert api.status("j").delay_ms == read


def test_a_stream_returns_its_new_parts(server, api):
    server.script("GET /v2/ep/stream/j", {"status": "IN_PROGRESS", "stream": [{"output": "a"}]})
    assert api.stream("j") == ("IN_PROGRESS", ["a"])


def test_what_is_unknown_is_none(api):
    assert (api.status("j"), api.cancel("j"), api.stream("j")) == (None, False, None)


@pytest.mark.parametrize("call", [lambda api: api.run({}), lambda api: api.health()])
def test_an_unknown_endpoint_is_invalid_input(api, call):
    with pytest.raises(InvalidInput, match=r"ep is unknown there; allowed: an endpoint id$"):
        call(api)


def test_a_base_url_without_the_version_gets_a_hint(server):
    api = QueueApi.of_endpoint(server.url.removesuffix("/v2"), "ep", KEY)
    with pytest.raises(InvalidInput, match=r"unknown there; .*; the base URL ends with /v2$"):
        api.run({})


def test_a_connection_that_is_refused_is_told_in_plain_words():
    port = free_port()
    api = QueueApi(f"http://127.0.0.1:{port}/v2/ep", KEY, retry_s=0)
    with pytest.raises(RunpodUnreachable) as caught:
        api.health()
    url = f"http://127.0.0.1:{port}/v2/ep/health"
    assert caught.value.message == f"{url}: connection refused; is it running?"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_invalid_input_and_not_repeated(server, api, status):
    server.script(RUN, {}, status)
    with pytest.raises(InvalidInput, match=f"RUNPOD_API_KEY: .* refuses it .HTTP {status}"):
        api.run({})
    assert len(server.requests) == 1


def test_a_refused_request_says_why_without_the_key(server, api):
    server.script(RUN, f"no input for Bearer {KEY}\x1b".encode(), 400)
    with pytest.raises(InvalidInput, match=r"HTTP 400: no input for Bearer \*\*\*\ufffd"):
        api.run({})


def test_a_redirect_is_not_followed_with_the_key(server, api):
    server.script(RUN, {}, 302, Location="/elsewhere")
    with pytest.raises(InvalidInput, match="HTTP 302"):
        api.run({})
    assert server.asked("POST /elsewhere") + server.asked("GET /elsewhere") == []


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"status": "IN_QUEUE"}',
        b'{"id": "j", "status": "LOST"}',
        b"\xff",
    ],
)
def test_an_answer_of_another_shape_says_nothing_about_the_job(server, impatient, body):
    server.script("GET /v2/ep/status/j", body)
    with pytest.raises(RunpodUnreachable, match="unexpected answer") as caught:
        impatient.status("j")
    assert caught.value.accepted is None


def test_a_stream_of_another_shape_is_no_crash(server, impatient):
    server.script("GET /v2/ep/stream/j", {"stream": ["a"]})
    with pytest.raises(RunpodUnreachable, match="unexpected answer"):
        impatient.stream("j")


def test_an_answer_that_is_too_long_is_not_read_to_its_end(server, impatient):
    server.script("GET /v2/ep/health", b" " * (runpod.MAX_BYTES + 1))
    server.script("GET /v2/ep/health", {"jobs": {}})
    with pytest.raises(RunpodUnreachable, match="more than 32,000,000 bytes"):
        impatient.health()
    assert impatient.health() == {"jobs": {}}


# What is repeated


def test_a_pause_that_the_api_asks_for_is_kept(server, api):
    server.script(RUN, {}, 429, Retry_After="2")
    server.script(RUN, ACCEPTED)
    started = time.monotonic()
    assert api.run({}) == "job-1"
    assert time.monotonic() - started >= 2


def refusal(code: str, message: str, *, retryable: bool) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "retryable": retryable}}


@pytest.mark.parametrize(("retryable", "pause"), [(False, {"Retry_After": "1"}), (True, {})])
def test_a_quota_without_room_is_told_at_once(server, api, retryable, pause):
    body = refusal("E_QUOTA", "anna has 20 live jobs", retryable=retryable)
    server.script(RUN, body, 429, **pause)
    with pytest.raises(QuotaExceeded, match=r"^anna has 20 live jobs$") as caught:
        api.run({})
    assert (caught.value.retryable, len(server.requests)) == (retryable, 1)


def test_a_quota_is_tried_again_when_it_has_room(server, api):
    body = refusal("E_QUOTA", "60 requests a minute", retryable=True)
    server.script(RUN, body, 429, Retry_After="2")
    server.script(RUN, ACCEPTED)
    started = time.monotonic()
    assert api.run({}) == "job-1"
    assert time.monotonic() - started >= 2


def test_a_quota_that_has_room_too_late_is_told_at_once(server, api):
    body = refusal("E_QUOTA", "no GPU seconds are left today", retryable=True)
    server.script(RUN, body, 429, Retry_After="3600")
    with pytest.raises(QuotaExceeded, match="no GPU seconds are left") as caught:
        api.run({})
    assert (caught.value.retry_after_s, len(server.requests)) == (3600, 1)


def test_a_refused_request_ends_with_the_contracts_message_without_the_key(server, api):
    body = refusal("E_INPUT_VALIDATION", f"prompt: got {KEY}", retryable=False)
    server.script(RUN, body, 400)
    with pytest.raises(RequestRefused, match=r"^prompt: got \*\*\*$"):
        api.run({})


@pytest.mark.parametrize("body", [{"error": "slow down"}, {"error": {"code": 5}}, {"error": None}])
def test_an_error_of_another_shape_is_repeated_as_any_429(server, impatient, body):
    server.script(RUN, body, 429)
    with pytest.raises(RunpodUnreachable, match="too many requests"):
        impatient.run({})


@pytest.mark.parametrize("retry_after", ["Fri, 31 Dec 1999 23:59:59 GMT", "-1", "\u00b2", ""])
def test_a_pause_that_is_no_number_is_the_usual_one(server, impatient, retry_after):
    server.script(RUN, {}, 429, Retry_After=retry_after)
    with pytest.raises(RunpodUnreachable) as caught:
        impatient.run({})
    assert (caught.value.pause_s, caught.value.accepted) == (0, False)


def test_a_status_is_asked_again_while_the_api_is_down(server, api):
    server.script("GET /v2/ep/status/j", {}, 503)
    server.script("GET /v2/ep/status/j", {"id": "j", "status": "IN_QUEUE"})
    assert api.status("j").status == "IN_QUEUE"


@pytest.mark.parametrize("status", [0, 408, 500, 502])
def test_a_job_that_may_have_been_accepted_is_never_posted_again(server, api, status):
    server.script(RUN, {}, status)
    server.script(RUN, ACCEPTED)
    with pytest.raises(RunpodUnreachable) as caught:
        api.run({})
    assert (caught.value.accepted, len(server.requests)) == (None, 1)


def test_parts_of_a_stream_are_not_asked_for_again(server, api):
    server.script("GET /v2/ep/stream/j", {}, 500)
    with pytest.raises(RunpodUnreachable):
        api.stream("j")
    assert len(server.requests) == 1


def test_a_job_that_was_never_sent_was_certainly_not_accepted():
    api = QueueApi(f"http://127.0.0.1:{free_port()}/v2/ep", KEY, retry_s=0)
    with pytest.raises(RunpodUnreachable) as caught:
        api.run({})
    assert caught.value.accepted is False
    assert KEY not in caught.value.message


def test_a_pause_of_a_busy_server_is_known(server, impatient):
    server.script("GET /v2/ep/health", {}, 503, Retry_After="7")
    with pytest.raises(RunpodUnreachable) as caught:
        impatient.health()
    assert (caught.value.pause_s, caught.value.accepted) == (7, None)


def test_the_key_is_in_no_repr(api):
    assert KEY not in repr(api)
