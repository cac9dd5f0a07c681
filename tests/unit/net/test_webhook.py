"""Webhook calls: what is sent, to which receivers, and for how long."""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from farm.net.guard import RequestFailed
from farm.net.webhook import post
from tests.support.receiver import Receiver

LOOPBACK = [ip_network("127.0.0.0/8")]


@pytest.fixture
def call(hook: Receiver) -> Callable[..., int]:
    """Posts to the receiver, with loopback allowed and its certificate trusted."""

    def run(url: str = hook.url, **options: Any) -> int:
        given = {"timeout_s": 5.0, "allow": LOOPBACK, "ca_file": hook.certificate} | options
        return post(url, b"the body", {"webhook-id": "msg_a"}, **given)

    return run


def test_the_body_and_the_headers_arrive(hook, call):
    assert call() == 204
    (only,) = hook.calls
    assert (only.body, only.headers["webhook-id"]) == (b"the body", "msg_a")
    assert only.headers["host"] == f"127.0.0.1:{hook.port}"


@pytest.mark.parametrize("status", [200, 302, 400, 410, 500])
def test_the_status_of_the_response_is_returned(hook, call, status):
    hook.then = status
    assert call() == status


def test_a_redirect_is_not_followed(hook, call):
    hook.answers = [307]
    hook.headers = {"Location": hook.url}
    assert call() == 307
    assert len(hook.calls) == 1


def test_an_endless_response_is_not_read(hook, call):
    hook.then = 200
    hook.headers = {"Content-Length": "1000000000000"}
    assert call() == 200


def test_a_silent_receiver_times_out(hook, call):
    hook.answering.clear()
    with pytest.raises(RequestFailed, match="did not respond, or not in time"):
        call(timeout_s=0.3)


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/", "ftp://127.0.0.1/", "127.0.0.1"])
def test_only_https_is_called(hook, call, url):
    with pytest.raises(RequestFailed, match="only https"):
        call(url.format(port=hook.port))
    assert hook.calls == []


def test_the_private_network_is_not_called(hook, call):
    with pytest.raises(RequestFailed, match="resolves to a non-public address"):
        call(allow=[])
    assert hook.calls == []


def test_a_name_is_resolved_once_and_the_checked_address_is_called(hook, call):
    asked = []

    def rebinding(host, port):
        asked.append(host)
        return [ip_address("127.0.0.1" if len(asked) == 1 else "10.0.0.1")]

    assert call(hook.url.replace("127.0.0.1", "localhost"), resolve=rebinding) == 204
    assert asked == ["localhost"]


def test_a_receiver_with_an_untrusted_certificate_is_not_called(hook, call):
    with pytest.raises(RequestFailed, match="its certificate is not trusted"):
        call(ca_file=None)
    assert hook.calls == []


def test_a_receiver_with_the_certificate_of_another_host_is_not_called(hook, call):
    with pytest.raises(RequestFailed, match="certificate"):
        call(
            f"https://other.example:{hook.port}/",
            resolve=lambda host, port: [ip_address("127.0.0.1")],
        )
    assert hook.calls == []


def test_a_file_without_certificates_is_named(hook, call, tmp_path: Path):
    with pytest.raises(RequestFailed, match=r"ca\.pem has no certificates"):
        call(ca_file=tmp_path / "ca.pem")


def test_a_refused_connection_is_a_failure(hook, call):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(RequestFailed, match="did not respond, or not in time"):
            call(f"https://127.0.0.1:{taken.getsockname()[1]}/")
