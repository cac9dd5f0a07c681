"""Bodies: JSON in the strict sense, of bounded length, in bounded time."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from farm.client import Farm
from farm.gateway.body import Limits, parse_object
from farm.gateway.refusal import Refusal
from tests.support.gateway import Client, running_gateway
from tests.support.jobs import FIELDS

SMALL = Limits(run_bytes=10_000, runsync_bytes=20_000)
HASTY = Limits(header_s=0.3, silent_s=0.3, body_s=0.6, write_s=0.3)


@pytest.fixture
def small(farm: Farm) -> Iterator[Client]:
    """The client of a gateway that takes short bodies."""
    with running_gateway(farm, limits=SMALL) as client:
        yield client


@pytest.fixture
def hasty(farm: Farm) -> Iterator[Client]:
    """The client of a gateway with little patience."""
    with running_gateway(farm, limits=HASTY) as client:
        yield client


# JSON


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"hello", "it is not JSON"),
        (b"{", "it is not JSON"),
        (b"{}{}", "it is not JSON"),
        (b"[]", "got array; allowed: a JSON object"),
        (b"null", "got null"),
        (b'"input"', "got string"),
        (b'{"input": NaN}', "NaN is no number of JSON"),
        (b'{"input": -Infinity}', "-Infinity is no number"),
        (b'{"input": 1e999}', "a number is out of range"),
        (b'{"input": ' + b"9" * 5000 + b"}", "(a number has more than 4300 digits)"),
        (b'{"input": {}, "input": {}}', "a name occurs twice"),
        (b'{"input": {"prompt": "a", "prompt": "b"}}', "a name occurs twice"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b"[" + b"1," * 300_000 + b"1]", "more than 200,000 commas"),
        (b'{"input": "\xff"}', "it is not UTF-8"),
        (b'{"input": "\x00"}', "it is not JSON"),
        ('{"input": 1}'.encode("utf-16"), "it is not UTF-8"),
    ],
)
def test_what_is_not_an_object_in_strict_json_is_refused(body: bytes, reason: str):
    with pytest.raises(Refusal) as caught:
        parse_object(body)

    assert caught.value.status == 400
    assert reason in caught.value.error.message


def test_the_longest_text_to_speak_is_no_nonsense():
    fields = {"input": {"tts_audio": {"text": "a," * 50_000}}}

    assert parse_object(json.dumps(fields).encode()) == fields


# Length


def test_a_body_beyond_the_limit_is_refused_and_the_client_reads_why(small: Client):
    answers = [small.post("run", {"input": "x" * size}) for size in (SMALL.run_bytes, 2_000_000)]

    assert [answer.status for answer in answers] == [413, 413]
    assert "allowed: 10,000 bytes" in answers[0].message


def test_runsync_takes_longer_bodies_than_run(small: Client):
    fields = {"input": {**FIELDS, "negative_prompt": "x" * 15_000}}

    assert small.post("run", fields).status == 413
    assert small.post("runsync?wait=1000", fields).status == 400, "the contract's own limit"


def test_a_compressed_body_is_refused(client: Client):
    answer = client.send("POST", "/v2/any/run", b"x", **{"Content-Encoding": "gzip"})

    assert answer.status == 415


# Slow clients, who get no more time by sending byte after byte


def connect(client: Client) -> socket.socket:
    parts = urlsplit(client.url)
    return socket.create_connection((parts.hostname or "", parts.port or 0))


def read_to_end(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    received = b""
    try:
        while piece := connection.recv(4096):
            received += piece
    except ConnectionResetError:
        pass
    return received


def drip(connection: socket.socket, data: bytes) -> bytes:
    """Sends byte after byte until the server closes the connection; what it has answered."""
    connection.settimeout(0.05)
    received = b""
    for number in range(10_000):
        try:
            connection.sendall(data[number % len(data) :][:1])
            piece = connection.recv(4096)
            if not piece:
                return received
            received += piece
        except TimeoutError:
            continue
        except OSError:
            return received
    raise AssertionError("the server has waited for 10,000 bytes")


HEAD = b"POST /v2/any/run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n"


def test_a_connection_without_a_request_is_closed(hasty: Client):
    with connect(hasty) as connection:
        assert read_to_end(connection) == b""


def test_headers_that_come_byte_by_byte_end_the_connection(hasty: Client):
    with connect(hasty) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX-Long: ")
        assert drip(connection, b"a") == b""


def test_a_second_request_has_no_more_time_for_its_headers(hasty: Client):
    with connect(hasty) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /heal")
        assert read_to_end(connection).startswith(b"HTTP/1.1 200 OK")


def test_a_body_that_stops_is_refused(hasty: Client):
    with connect(hasty) as connection:
        connection.sendall(HEAD + b"\r\n{")
        assert read_to_end(connection).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_comes_byte_by_byte_is_refused(hasty: Client):
    with connect(hasty) as connection:
        connection.sendall(HEAD + b"\r\n")
        assert drip(connection, b" ").startswith(b"HTTP/1.1 408 ")


def test_a_body_that_nobody_reads_ends_the_connection(hasty: Client):
    head = HEAD.replace(b"/run ", b"/none ")
    with connect(hasty) as connection:
        connection.sendall(head + b"\r\n")
        assert drip(connection, b" ").startswith(b"HTTP/1.1 404 ")


def flood(connection: socket.socket, data: bytes) -> None:
    """Sends for ever, and reads nothing."""
    while True:
        try:
            connection.sendall(data)
        except TimeoutError:
            continue


def test_a_client_that_does_not_read_its_answers_is_left(hasty: Client):
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(hasty) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.05)
        with pytest.raises(ConnectionError):
            flood(connection, request * 100)


def test_a_client_that_goes_away_in_a_body_leaves_the_gateway_as_it_was(hasty: Client):
    with connect(hasty) as connection:
        connection.sendall(HEAD + b"\r\n{")

    assert hasty.send("GET", "/healthz").status == 200
