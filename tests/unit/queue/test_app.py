"""The application's connection to the broker."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from kombu.exceptions import OperationalError

from farm.errors import FarmUnreachable
from farm.queue.app import make_app
from farm.registry import open_registry
from farm.settings import Settings
from tests.support.certificate import server_context


class Impostor:
    """A TLS server in the broker's place; `received` is what clients tell it."""

    def __init__(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        self.url = f"rediss://:password@127.0.0.1:{listener.getsockname()[1]}/0"
        self.received: list[bytes] = []
        self.handshakes = 0
        self._listener = listener
        self._context = context

    def serve(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    self._receive(connection)

    def _receive(self, connection: socket.socket) -> None:
        self.handshakes += 1
        with self._context.wrap_socket(connection, server_side=True) as stream:
            self.received.append(stream.recv(1000))


@pytest.fixture
def impostor(certificate: Path) -> Iterator[Impostor]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        impostor = Impostor(listener, server_context(certificate))
        thread = threading.Thread(target=impostor.serve)
        thread.start()
        yield impostor
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def call_broker(url: str) -> None:
    """As Celery does in clients and workers."""
    app = make_app(Settings(broker_url=url))
    with closing(app.connection_for_write()) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)


def read_registry(url: str) -> None:
    open_registry(url).now()


@pytest.mark.parametrize("call", [call_broker, read_registry])
def test_a_broker_whose_certificate_is_not_trusted_is_told_no_password(
    impostor: Impostor, call: Callable[[str], None]
) -> None:
    with pytest.raises((FarmUnreachable, OperationalError), match="certificate verify failed"):
        call(impostor.url)
    assert impostor.handshakes
    assert not any(impostor.received)


def test_a_broker_whose_certificate_is_trusted_is_called(
    impostor: Impostor, certificate: Path
) -> None:
    with pytest.raises(OperationalError):  # it is no broker
        call_broker(f"{impostor.url}?ssl_ca_certs={certificate}")
    assert any(b"password" in each for each in impostor.received)


def test_a_broker_without_tls_needs_no_certificate(broker: str) -> None:
    call_broker(broker)
