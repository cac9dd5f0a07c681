"""Connections that a request gives up: nothing of them stays open."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from math import inf

import httpcore
import pytest

from farm.net.guard import GuardedBackend, Limits


class Stopped(Exception):
    """What a step raises when it is to stop."""


def raise_stopped() -> None:
    raise Stopped


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_what_a_late_call_returns_is_discarded():
    # Given a call that a request gives up before it returns
    may_return = threading.Event()
    discarded: queue.Queue[str] = queue.Queue()

    def connect() -> str:
        may_return.wait()
        return "a connection"

    with pytest.raises(Stopped):
        Limits(inf, raise_if_stopped=raise_stopped).run(connect, discard=discarded.put)
    # When it returns after all
    assert discarded.empty()
    may_return.set()
    # Then that is discarded
    assert discarded.get(timeout=60) == "a connection"


def test_a_connection_is_closed_if_no_time_is_left_for_tls(listener, monkeypatch):
    backend = GuardedBackend(
        allow=[ip_network("127.0.0.0/8")],
        resolve=lambda host, port: [ip_address("127.0.0.1")],
        limits=Limits(deadline=time.monotonic() + 60),
    )
    stream = backend.connect_tcp("localhost", listener.getsockname()[1])
    peer, _ = listener.accept()
    with peer, monkeypatch.context() as later:
        later.setattr("farm.net.guard.time.monotonic", lambda: inf)
        with pytest.raises(httpcore.ReadTimeout):
            stream.start_tls(ssl.create_default_context())
        later.undo()
        peer.settimeout(60)
        assert peer.recv(1) == b""
