"""A receiver of webhooks over TLS on the loopback, whose answers a test defines."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from farm.net.signing import receiver_secret
from tests.support.certificate import server_context
from tests.support.serving import serving

SECRET = "whsec_" + "Zm9yIHRlc3RzIGFsb25lLCB0b2xkIHRvIG5vYm9keQ=="
"""The farm's, from which that of each receiver is derived."""


@dataclass(frozen=True)
class Call:
    """One call that arrived; the names of its headers are in lower case."""

    headers: dict[str, str]
    body: bytes
    at: float
    """Seconds since 1970."""


@dataclass
class Receiver:
    """`answers` are the statuses of the next calls, `then` is that of all others."""

    port: int
    certificate: Path
    answers: list[int] = field(default_factory=list)
    then: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    answering: threading.Event = field(default_factory=threading.Event)
    """Each answer waits for it; cleared, the receiver is silent until its block ends."""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/done"

    @property
    def secret(self) -> str:
        """What it verifies its calls with."""
        return receiver_secret(SECRET, self.url)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings with which a farm may call it."""
        return {
            "webhook_secret": SECRET,
            "webhook_ca": self.certificate,
            "fetch_allow": "127.0.0.0/8",
        }

    @property
    def environ(self) -> dict[str, str]:
        """The same as variables."""
        return {f"FARM_{name.upper()}": str(value) for name, value in self.settings.items()}

    def ids(self) -> list[str]:
        return [call.headers["webhook-id"] for call in self.calls]


class _Server(ThreadingHTTPServer):
    block_on_close = False
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Some tests are about callers that do not wait for the answer, which is no error here."""


@contextmanager
def receiver(certificate: Path) -> Iterator[Receiver]:
    """A receiver that listens while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            known.calls.append(Call(headers, body, time.time()))
            known.answering.wait()
            self.send_response(known.answers.pop(0) if known.answers else known.then)
            for name, value in {"Content-Length": "0", **known.headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = _Server(("127.0.0.1", 0), Handler)
    # Each call shakes hands in its own thread: one that was given up keeps no other waiting.
    http.socket = server_context(certificate).wrap_socket(
        http.socket, server_side=True, do_handshake_on_connect=False
    )
    known = Receiver(http.server_port, certificate)
    known.answering.set()
    with serving(http):
        try:
            yield known
        finally:
            known.answering.set()
