"""The application's connection to the broker."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from farm.errors import FarmUnreachable, InvalidInput
from farm.queue.app import make_app
from farm.queue.brokers import check_shared, open_broker
from farm.queue.brokers.rabbitmq_api import ManagementApi
from farm.registry import farm_registry
from farm.settings import Settings
from tests.support.certificate import server_context, write_certificate


class Impostor:
    """A TLS server in the broker's place; `received` is what clients tell it."""

    def __init__(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        self._port = listener.getsockname()[1]
        self.received: list[bytes] = []
        self.handshakes = 0
        self._listener = listener
        self._context = context

    def url(self, scheme: str) -> str:
        return f"{scheme}://:password@127.0.0.1:{self._port}/0"

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
    with impersonated(certificate) as impostor:
        yield impostor


@contextmanager
def impersonated(certificate: Path) -> Iterator[Impostor]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        impostor = Impostor(listener, server_context(certificate))
        thread = threading.Thread(target=impostor.serve)
        thread.start()
        yield impostor
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def call_celery(settings: Settings) -> None:
    """As clients and workers do."""
    app = make_app(settings)
    with closing(app.connection_for_write()) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)


def ask_broker(settings: Settings) -> None:
    """As exporter, reaper and doctor do."""
    open_broker(settings).queued()


def read_registry(settings: Settings) -> None:
    farm_registry(settings).now()


def ask_api(settings: Settings) -> None:
    ManagementApi(settings).memory_bytes()


def settings_for(url: str, **fields: Any) -> Settings:
    """Settings in which everything is at one URL."""
    if url.startswith("https"):
        return Settings(broker_url="amqp://x", broker_api=url, **fields)
    return Settings(broker_url=url, **fields)


CALLS = [
    ("rediss", call_celery),
    ("rediss", ask_broker),
    ("rediss", read_registry),
    ("amqps", call_celery),
    ("amqps", ask_broker),
    ("https", ask_api),
]
"""Every kind of connection that has a password."""


@pytest.mark.parametrize(("scheme", "call"), CALLS)
def test_a_broker_whose_certificate_is_not_trusted_is_told_no_password(
    impostor: Impostor, scheme: str, call: Callable[[Settings], None]
) -> None:
    with pytest.raises((FarmUnreachable, OperationalError), match="certificate verify failed"):
        call(settings_for(impostor.url(scheme)))
    assert impostor.handshakes
    assert not any(impostor.received)


@pytest.mark.parametrize(("scheme", "call"), CALLS)
def test_a_broker_for_which_the_authorities_vouch_is_called(
    impostor: Impostor, certificate: Path, scheme: str, call: Callable[[Settings], None]
) -> None:
    with pytest.raises((FarmUnreachable, OperationalError)):  # it is no broker
        call(settings_for(impostor.url(scheme), broker_ca=certificate))
    assert any(impostor.received)


@pytest.mark.parametrize(("scheme", "call"), CALLS)
def test_a_certificate_for_another_host_is_refused(
    tmp_path: Path, scheme: str, call: Callable[[Settings], None]
) -> None:
    theirs = write_certificate(tmp_path / "theirs.pem", "127.0.0.2")
    refused = pytest.raises((FarmUnreachable, OperationalError), match="certificate verify failed")
    with impersonated(theirs) as impostor, refused:
        call(settings_for(impostor.url(scheme), broker_ca=theirs))
    assert not any(impostor.received)


@pytest.mark.parametrize("call", [call_celery, ask_broker, read_registry])
def test_parameters_of_the_url_come_before_the_setting(
    impostor: Impostor, certificate: Path, tmp_path: Path, call: Callable[[Settings], None]
) -> None:
    other = write_certificate(tmp_path / "other.pem")
    url = f"{impostor.url('rediss')}?ssl_ca_certs={certificate}"
    with pytest.raises((FarmUnreachable, OperationalError)):  # it is no broker
        call(settings_for(url, broker_ca=other))
    assert any(b"password" in each for each in impostor.received)


@pytest.mark.parametrize(("scheme", "call"), CALLS)
def test_a_file_without_certificates_is_named(
    impostor: Impostor, tmp_path: Path, scheme: str, call: Callable[[Settings], None]
) -> None:
    with pytest.raises(InvalidInput, match=r"FARM_BROKER_CA: got .*it has no certificates"):
        call(settings_for(impostor.url(scheme), broker_ca=tmp_path / "missing.pem"))


def test_a_broker_without_tls_needs_no_certificate(broker: str) -> None:
    call_celery(Settings(broker_url=broker))


@pytest.mark.parametrize("url", ["sqs://key:secret@", "memory://", "amqp+ssl://secret@host"])
def test_a_broker_of_an_unknown_kind_is_refused_without_any_of_its_password(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        make_app(Settings(broker_url=url))
    allowed = "allowed: redis://, rediss://, amqp:// or amqps://"
    assert str(refused.value).endswith(allowed)
    assert "secret" not in str(refused.value)


def test_rabbitmq_cannot_be_the_registry() -> None:
    settings = Settings(broker_url="amqp://farm:secret@host/farm")
    with pytest.raises(InvalidInput) as refused:
        check_shared(settings)
    assert str(refused.value) == (
        "FARM_REGISTRY_URL: it is not set, and RabbitMQ (FARM_BROKER_URL) cannot be the registry; "
        "allowed: redis:// or rediss:// URL of a Redis or Valkey"
    )
    check_shared(settings.model_copy(update={"registry_url": "redis://host"}))
