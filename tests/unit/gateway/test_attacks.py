"""What strangers try: nothing of it is accepted, is an error of the gateway's own, or says where
things are.
"""

from __future__ import annotations

import json
import re
import secrets
import socket
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from farm.client import Farm
from farm.store import keys
from tests.support.gateway import Answer, Client, farm_of_strangers, running_gateway
from tests.support.jobs import FIELDS
from tests.unit.gateway.conftest import Key
from tests.unit.gateway.test_body import connect, read_to_end

INSIDE = re.compile(r"Traceback|\.py\b|/home/|/tmp/|redis|127\.0\.0\.1:\d|FARM_BROKER")
"""What no answer may contain."""


def assert_refused(answer: Answer, *statuses: int) -> None:
    assert answer.status in statuses, answer.body
    text = json.dumps(answer.body)
    assert set(answer.body) == {"error"}
    assert not INSIDE.search(text), text


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """One for all attacks; each comes from a caller of its own."""
    with farm_of_strangers(tmp_path_factory.mktemp("home")) as farm:
        yield farm


@pytest.fixture(scope="module")
def client(farm: Farm) -> Iterator[Client]:
    farm.context.registry.keys.create("stranger")
    with running_gateway(farm) as client:
        yield client


@pytest.fixture
def anna(key: Key) -> Client:
    return key(f"anna-{secrets.token_hex(4)}")


def submit(client: Client, **fields: Any) -> Answer:
    return client.post("run", {"input": {**FIELDS, **fields}})


# Files and addresses


@pytest.mark.parametrize(
    "source",
    [
        "/etc/passwd",
        "../../etc/passwd",
        "~/.ssh/id_rsa",
        "examples/portrait.png",
        "C:\\Windows\\win.ini",
        "\\\\server\\share\\a.png",
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "gopher://example.org/1",
        "ftp://example.org/a.png",
        "s3://bucket/key",
        "store://jobs/x/request.json",
        "store://uploads/../farm.json",
        "STORE://jobs/x/request.json",
        "store://uploads/" + "0" * 64,
        "/dev/stdin",
        "/proc/self/environ",
        "/" + "a" * 5000,
        "\x00",
        "data:",
        "data:image/png;base64,****",
        "http://127.0.0.1/a.png",
        "http://127.1/a.png",
        "http://2130706433/a.png",
        "http://0x7f.1/a.png",
        "http://[::1]/a.png",
        "http://[::ffff:10.0.0.1]/a.png",
        "http://169.254.169.254/latest/meta-data",
        "http://localhost/a.png",
        "http://user:secret@10.0.0.1/a.png",
        "http://⑫7.0.0.1/a.png",
        "http://",
        "http:///a.png",
        "https://[::1",
        "http://exa mple.org/a.png",
        "no base64! " * 20,
    ],
)
@pytest.mark.parametrize("field", ["cond_video", "cond_audio"])
def test_no_source_leads_into_this_machine_or_its_network(anna: Client, field: str, source: str):
    answer = submit(anna, **{field: source if field == "cond_video" else {"person1": source}})

    assert_refused(answer, 400)
    assert answer.message.startswith(field)
    assert "allowed: a file" not in answer.message


def test_no_upload_of_another_tenant_is_read(key: Key, farm: Farm, portrait: Path):
    anna, bob = key("anna"), key("bob")
    face = "data:image/png;base64," + b64encode(portrait.read_bytes()).decode()
    assert submit(anna, cond_video=face).status == 200
    upload = keys.SCHEME + keys.upload(portrait)

    assert submit(anna, cond_video=upload).status == 200
    assert_refused(submit(bob, cond_video=upload), 400)


@pytest.mark.parametrize(
    "webhook", ["http://example.org", "https://user:pw@example.org", "file:///x", "https://", ""]
)
def test_no_webhook_is_anything_but_https(anna: Client, webhook: str):
    assert_refused(anna.post("run", {"input": FIELDS, "webhook": webhook}), 400)


# Ids


@pytest.mark.parametrize(
    "job_id",
    [
        "0",
        "..",
        "%2e%2e",
        "..%2f..%2fhealth",
        "%00",
        "*",
        "a" * 10_000,
        "0" * 31 + "%0a",
        "0" * 32 + "%20",
        "JOB",
        "%F0%9F%98%80",
        "{id}",
        "identity",
    ],
)
@pytest.mark.parametrize("call", ["status", "stream", "status-sync"])
def test_no_other_text_is_an_id(anna: Client, call: str, job_id: str):
    assert_refused(anna.get(f"{call}/{job_id}"), 404)


def test_no_id_of_another_tenant_can_be_cancelled_or_retried(key: Key):
    job_id = key("anna").submit(FIELDS)
    bob = key("bob")

    for call in ("cancel", "retry"):
        assert_refused(bob.post(f"{call}/{job_id}"), 404)


@pytest.mark.parametrize(
    "path",
    [
        "/v2",
        "/v2/",
        "/v2//run",
        "//v2/any/run",
        "/v2/any/run/",
        "/V2/any/run",
        "/v2/any/../run",
        "/.env",
        "/metrics/x",
    ],
)
def test_no_other_path_is_a_route(anna: Client, path: str):
    assert_refused(anna.send("POST", path, b"{}"), 404, 405)


# Keys


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic YW5uYTphbm5h",
        "Bearer itf_" + "A" * 43,
        "Bearer " + "x" * 9_000,
        "Bearer * ",
        "Bearer farm:api_keys",
        "Bearer \xff\xfe",
        "Bearer a b c",
    ],
)
def test_no_other_text_is_a_key(key: Key, client: Client, given: str):
    key("anna")
    stranger = Client(client.url, headers={"Authorization": given})

    assert_refused(stranger.post("run", {"input": FIELDS}), 401)
    assert_refused(stranger.get("health"), 401)


def test_neither_the_hash_nor_the_id_of_a_key_is_one(anna: Client, farm: Farm):
    known = farm.context.registry.keys.all()[-1]

    for guess in (known.key.digest, known.key.id, str(anna.key)[:-1], str(anna.key).lower()):
        assert_refused(Client(anna.url, guess).get("health"), 401)


def test_two_keys_in_one_request_are_none(anna: Client):
    host = b"GET /v2/any/health HTTP/1.1\r\nHost: localhost\r\n"
    header = f"Authorization: Bearer wrong\r\nAuthorization: Bearer {anna.key}\r\n\r\n".encode()
    with connect(anna) as connection:
        connection.sendall(host + header)
        connection.settimeout(5)
        assert connection.recv(4096).startswith(b"HTTP/1.1 401")


# Bodies


@pytest.mark.parametrize(
    "body",
    [
        {"input": None},
        {"input": []},
        {"input": "text"},
        {"input": 1},
        {"input": {}},
        {"Input": FIELDS},
        {"input": FIELDS, "extra": 1},
        {"input": {**FIELDS, "caller": "bob"}},
        {"input": {**FIELDS, "prompt": ["a"]}},
        {"input": {**FIELDS, "prompt": "\ud800"}},
        {"input": {**FIELDS, "prompt": "x" * 100_000}},
        {"input": {**FIELDS, "base_seed": 10**400}},
        {"input": {**FIELDS, "sample_steps": True}},
        {"input": {**FIELDS, "sample_steps": 1e308}},
        {"input": {**FIELDS, "lora": [{"name": "../x"}] * 10_000}},
        {"input": {**FIELDS, "priority": {"a": 1}}},
        {"input": {**FIELDS, "priority": "high"}, "policy": {"lowPriority": True}},
        {"input": {**FIELDS, "output_config": {"store": "volume", "prefix": "../../etc"}}},
        {"input": {**FIELDS, "quant_dir": "/etc"}},
        {"input": {"batch": []}},
        {"input": {"batch": {}}},
        {"input": {"batch": [{}] * 101}},
        {"input": {"batch": [FIELDS], "extra": 1}},
        {"input": {"batch": [FIELDS]}, "webhook": "https://example.org"},
        {"input": FIELDS, "policy": 1},
        {"input": FIELDS, "policy": {"ttl": 10_000, "executionTimeout": 20_000}},
        {"input": FIELDS, "policy": {"ttl": -1}},
        {"input": FIELDS, "policy": {"ttl": 1e9}},
        {"input": FIELDS, "policy": {"ttl": "60000"}},
        {"input": FIELDS, "policy": {"executionTimeout": 4_999}},
        {"input": FIELDS, "policy": {"executionTimeout": 604_800_001}},
        {"input": FIELDS, "policy": {"lowPriority": 1}},
        {"input": FIELDS, "webhook": 1},
        {"input": FIELDS, "s3Config": {"accessId": "a", "accessSecret": "very secret"}},
    ],
    ids=lambda body: json.dumps(body)[:60],
)
@pytest.mark.parametrize("call", ["run", "runsync?wait=1000"])
def test_no_request_with_wrong_fields_is_accepted(anna: Client, call: str, body: Any):
    answer = anna.post(call, body)

    assert_refused(answer, 400)
    assert "very secret" not in answer.message
    assert anna.get("health").body["jobs"]["inQueue"] == 0


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("run", b""),
        ("runsync", b""),
        ("run", b"{"),
        ("run", b'{"input": NaN}'),
        ("run", b'{"input": {}, "input": {}}'),
        ("run", b"[" * 1_000_000),
        ("run", b"\xff\xfe{}"),
    ],
)
def test_no_nonsense_is_json(anna: Client, call: str, body: bytes):
    assert_refused(anna.send("POST", f"/v2/any/{call}", body), 400)


@pytest.mark.parametrize("call", ["cancel/" + "0" * 32, "purge-queue"])
def test_no_long_body_comes_where_none_is_needed(anna: Client, call: str):
    assert_refused(anna.send("POST", f"/v2/any/{call}", b" " * 5_000), 413)


# HTTP


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
        b"POST /v2/any/run HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /v2/any/run HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v2/any/run HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /v2/any/run HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=lambda head: repr(head[:60]),
)
def test_no_malformed_request_is_answered_with_anything_but_4xx(client: Client, head: bytes):
    with connect(client) as connection:
        with suppress(OSError):  # it may have closed the connection already
            connection.sendall(head)
            connection.shutdown(socket.SHUT_WR)
        received = read_to_end(connection)

    assert re.match(rb"HTTP/1\.1 4\d\d |$", received), received
    assert client.send("GET", "/healthz").status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO"])
def test_no_other_method_is_answered(anna: Client, method: str):
    answer = anna.send(method, "/v2/any/run", b"")

    assert_refused(answer, 405)
    assert "Access-Control-Allow-Origin" not in answer.headers
