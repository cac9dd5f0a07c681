"""What strangers send to /v1: nonsense is refused in one object, soon, and leaves nothing."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress

import pytest

from farm.client import Farm
from farm.gateway.body import Limits
from tests.support.gateway import Client, farm_of_strangers, running_gateway
from tests.support.jobs import FIELDS
from tests.support.waiting import wait_for
from tests.unit.gateway.conftest import Key
from tests.unit.gateway.test_attacks import INSIDE, assert_refused
from tests.unit.gateway.test_body import connect, drip, read_to_end

FORM = "multipart/form-data; boundary=X"
HOST = b"Host: localhost\r\n"
FACE = b'Content-Disposition: form-data; name="image"\r\n\r\nhttps://example.org/a.png'
TEXT = b'Content-Disposition: form-data; name="text"\r\n\r\nhello'


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
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


@pytest.fixture(scope="module")
def impatient(farm: Farm) -> Iterator[Client]:
    """The same farm's, with little patience for bodies."""
    limits = Limits(silent_s=0.3, body_s=0.6, upload_s=0.6)
    with running_gateway(farm, limits=limits) as client:
        yield client


def form(*parts: bytes) -> bytes:
    return b"".join(b"--X\r\n" + part + b"\r\n" for part in parts) + b"--X--\r\n"


def named(name: str, value: bytes = b"a") -> bytes:
    return f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode("latin-1") + value


def nested(depth: int) -> bytes:
    return json.dumps(FIELDS)[:-1].encode() + b', "lora": ' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    ("kind", "body", "status", "message"),
    [
        ("", b"{}", 415, "Content-Type: got ''; "),
        ("text/json", b"{}", 415, "Content-Type: got 'text/json'; "),
        ("application/x-www-form-urlencoded", b"image=a", 415, "Content-Type: got "),
        ("application/json", b"", 400, "body: it is empty; allowed: a JSON object"),
        ("application/json", b"{'a': 1}", 400, "line 1, column 2: a name in double quotes is"),
        ("application/json", b'{"a": 1,}', 400, "line 1, column 9: a name in double quotes is"),
        ("application/json", b'{"prompt": "a\0b"}', 400, "column 14: a control character is not"),
        ("application/json", b"[" * 100_000, 400, "it is nested too deeply"),
        ("application/json", nested(500), 422, "request: it is nested too deeply"),
        ("application/json", b'{"a\\nb: got 1": 1}', 422, "'a\\nb: got 1': there is no such"),
        ("application/json", b'{"\\u001b[31m": 1}', 422, "'\\x1b[31m': there is no such"),
        ("application/json", b'{"\\ud800": 1}', 422, "request: got '\\ud800'; allowed: UTF-8"),
        ("application/json", json.dumps({f"f{n}": n for n in range(10_000)}).encode(), 422, "f9: "),
        (FORM, b"junk\r\n" + form(FACE), 400, "its parts are not separated as Content-Type says"),
        (FORM, form(FACE).replace(b"\r\n", b"\n"), 400, "its parts are not separated"),
        (FORM, form(*[named(f"f{n}") for n in range(10_000)]), 422, "f0: there is no such field"),
        (FORM, form(*[named("prompt")] * 10_000), 422, "prompt: it is given twice; "),
        (FORM, form(b"X: " + b"a" * 100_000), 400, "Maximum header size exceeded"),
        (FORM, form(b"X: a\r\n" * 9_999 + FACE), 400, "Maximum header count exceeded"),
        (FORM, form(b"Content-Type: text/plain\r\n\r\na"), 422, "part: it has no name; "),
        (FORM, form(named("\xff\xfe")), 422, "there is no such field"),
        (FORM, form(named("../../etc/passwd")), 422, "../../etc/passwd: there is no such"),
        (FORM, form(named("image", b"/etc/passwd"), TEXT), 422, "image: got '/etc/passwd'; "),
        (FORM, form(named("image", b"\0"), TEXT), 422, "image: got '\\x00'; "),
        (FORM, form(FACE, TEXT, named("bbox", b"{'person1': [1]}")), 422, "this is not JSON (line"),
        (FORM, form(FACE, TEXT, named("lora", b"[" * 9_000)), 422, "(it is nested too deeply)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/estimates"])
def test_no_nonsense_is_a_request(
    anna: Client, path: str, kind: str, body: bytes, status: int, message: str
):
    answer = anna.send("POST", path, body, **{"Content-Type": kind})

    assert_refused(answer, status)
    assert message in answer.message
    assert anna.send("GET", "/v1/jobs").body["jobs"] == []


def test_json_may_begin_with_a_mark(anna: Client):
    body = b"\xef\xbb\xbf" + json.dumps(FIELDS).encode()

    assert anna.send("POST", "/v1/jobs", body).status == 201


def test_a_file_with_an_encoded_name_is_a_file(anna: Client):
    file = b"Content-Disposition: form-data; name=image; filename*=utf-8''%C3%BC.png\r\n\r\n\x89PNG"

    answer = anna.send("POST", "/v1/jobs", form(file, TEXT), **{"Content-Type": FORM})

    assert answer.status == 422
    assert answer.message.startswith("image: the file ")


def test_the_name_of_a_field_adds_no_mistakes(anna: Client):
    answer = anna.send("POST", "/v1/jobs", json.dumps({**FIELDS, "a\nprompt: b": 1}).encode())

    fields = [each["field"] for each in answer.body["error"]["mistakes"]]
    assert fields == ["'a\\nprompt: b'"]


def request(line: bytes, key: str | None, *headers: bytes) -> bytes:
    own = (b"Authorization: Bearer %s" % str(key).encode(), b"Connection: close", *headers)
    return line + b" HTTP/1.1\r\n" + HOST + b"\r\n".join(own) + b"\r\n\r\n"


JSON = b"Content-Type: application/json"
CHUNKED = b"Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ([JSON, b"Content-Length: 100"], b"{}", 408),
        ([JSON, CHUNKED], b"", 408),
        ([JSON, CHUNKED], b"FFFFFFFFFFFFFFFFF\r\n{}", 408),
        ([JSON, CHUNKED], b"zz\r\n{}\r\n", 400),
        ([JSON, CHUNKED], b"1;" + b"a" * 500_000, 400),
        ([JSON, CHUNKED], b"2\r\n{}\r\n0\r\n" + b"X: a\r\n" * 100_000, 400),
        ([JSON, b"Content-Length: 9" * 9_999], b"", 400),
        ([b"Content-Type: " + FORM.encode(), CHUNKED], b"5\r\n--X\r\n\r\n", 408),
    ],
    ids=lambda part: repr(part)[:50],
)
def test_no_body_without_an_end_is_waited_for(
    anna: Client, impatient: Client, headers: list[bytes], body: bytes, status: int
):
    with connect(impatient) as connection:
        with suppress(OSError):  # it may have closed the connection already
            connection.sendall(request(b"POST /v1/jobs", anna.key, *headers) + body)
        received = read_to_end(connection)

    # A reset of the connection, for what it has not read, may overtake the answer.
    assert re.match(rb"HTTP/1\.1 %d |$" % status, received), received


def test_a_body_whose_chunks_never_end_is_refused(anna: Client, impatient: Client):
    head = request(b"POST /v1/jobs", anna.key, JSON, CHUNKED)
    with connect(impatient) as connection:
        connection.sendall(head)
        received = drip(connection, b"1\r\n \r\n")

    assert received.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v1/jobs HTTP/3\r\n" + HOST + b"\r\n",
        b"GET /v1/jobs/\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /v1/jobs HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Content-Length: abc\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
    ],
    ids=lambda head: repr(head[:60]),
)
def test_what_is_not_http_is_answered_with_the_contracts_error(client: Client, head: bytes):
    with connect(client) as connection:
        connection.sendall(head)
        received = read_to_end(connection)

    status, _, rest = received.partition(b"\r\n")
    error = json.loads(rest.partition(b"\r\n\r\n")[2].split(b"\r\n")[-1] or b"{}")["error"]
    assert status == b"HTTP/1.1 400 Bad Request"
    assert error["message"] == (
        "request: it is not readable; allowed: HTTP/1.1, with headers of at most 32,768 bytes"
    )


@pytest.mark.parametrize(
    "job_id",
    ["..", "%2e%2e", "..%2f..%2fetc", "%00", "*", "A" * 32, "%ff", "%zz", "farm:jobs", "{id}",
     "%0a" + "0" * 32, "0" * 32 + ";a=b", "0" * 32 + "%3Fx", "0" * 60_000],
)  # fmt: skip
@pytest.mark.parametrize("part", ["", "/content", "/events", "/segments/0/init.mp4"])
def test_no_other_text_is_an_id(anna: Client, job_id: str, part: str):
    assert_refused(anna.send("GET", f"/v1/jobs/{job_id}{part}"), 404)


@pytest.mark.parametrize(
    "segment",
    ["00/segment.m4s", "-1/init.mp4", "99999/init.mp4", "1e3/init.mp4", "9" * 99 + "/init.mp4",
     "%D9%A1/init.mp4", "0/%2e%2e%2fx", "0/init.mp4%00", "0/../init.mp4"],
)  # fmt: skip
def test_no_other_text_is_a_segment(anna: Client, segment: str):
    job_id = anna.submit_v1(FIELDS)

    assert_refused(anna.send("GET", f"/v1/jobs/{job_id}/segments/{segment}"), 404)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "FOO"])
def test_no_other_method_is_answered(anna: Client, method: str):
    answer = anna.send(method, "/v1/jobs", b"")

    assert_refused(answer, 405)
    assert answer.headers["Allow"] == "GET, HEAD, POST"


def test_http_1_0_is_answered_and_closed(anna: Client):
    head = request(b"GET /v1/jobs", anna.key).replace(b"HTTP/1.1", b"HTTP/1.0")
    with connect(anna) as connection:
        connection.sendall(head.replace(b"Connection: close\r\n", b""))
        received = read_to_end(connection)

    assert re.match(rb"(?is)HTTP/1\.1 200 .*connection: close", received)


def test_those_who_leave_a_stream_leave_nothing(anna: Client, client: Client):
    job_id = anna.submit_v1(FIELDS)
    head = request(f"GET /v1/jobs/{job_id}/events".encode(), anna.key)
    for _ in range(50):
        with connect(anna) as connection:
            connection.sendall(head)
            assert connection.recv(9) == b"HTTP/1.1 "

    def waits() -> str:
        text = client.send("GET", "/metrics").content.decode()
        return re.findall("^farm_gateway_waits (.*)$", text, re.MULTILINE)[0]

    wait_for(lambda: waits() == "0.0")
    assert anna.send("GET", f"/v1/jobs/{job_id}").status == 200


def test_the_headers_of_a_stream_are_answered_at_once(anna: Client):
    job_id = anna.submit_v1(FIELDS)

    answer = anna.send("HEAD", f"/v1/jobs/{job_id}/events")

    assert (answer.status, answer.content) == (200, b"")
    assert answer.headers["Content-Type"].startswith("text/event-stream")


def test_no_answer_to_nonsense_says_where_things_are(anna: Client):
    answers = [
        anna.send("POST", "/v1/jobs", body, **{"Content-Type": kind})
        for kind in ("application/json", FORM)
        for body in (b"\xff" * 100, b"\0" * 100, b"--X\r\n\r\n--X--", b"{" * 100)
    ]

    assert not any(INSIDE.search(json.dumps(answer.body)) for answer in answers)
    assert {answer.status for answer in answers} == {400, 422}
