"""A web server of our own for the fetch tests, and media made on the spot for all the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from numpy.typing import NDArray

from farm.media.audio import write_wav

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Server:
    """A server on 127.0.0.1: `answers` says what each path does, `seen` keeps the headers of every request."""

    port: int
    answers: dict[str, Answer] = field(default_factory=dict)
    seen: list[dict[str, str]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def gives(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        """The address of `path`, which from now on answers with `body`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | named).items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(body)

        self.answers[path] = answer
        return self.url(path)

    def leads(self, path: str, to: str) -> str:
        """The address of `path`, which from now on redirects."""
        return self.gives(path, b"", status=302, Location=to)


class _Quiet(ThreadingHTTPServer):
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up early is what many of these tests are about."""


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known.seen.append(dict(self.headers))
            known.answers[self.path.partition("?")[0]](self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = _Quiet(("127.0.0.1", 0), Handler)
    known = Server(http.server_port)
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield known
    http.shutdown()
    thread.join()
    http.server_close()


def tone(seconds: float, rate: int, channels: int = 1, level: float = 0.3) -> NDArray[np.float32]:
    """A sine of 440 Hz, float32 [C, n]."""
    wave = level * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    return np.tile(wave.astype(np.float32), (channels, 1))


@pytest.fixture
def make_wav(tmp_path: Path) -> Callable[..., Path]:
    def make(seconds: float = 1.0, rate: int = 44_100, channels: int = 1, level: float = 0.3) -> Path:
        path = tmp_path / f"tone-{seconds}-{rate}-{channels}-{level}.wav"
        write_wav(path, tone(seconds, rate, channels, level), rate)
        return path

    return make


@pytest.fixture
def counting() -> Callable[..., list[NDArray[np.uint8]]]:
    """Up to 256 frames of 64 x 48 that carry their number: eight stripes, white for a one and black for a zero."""

    def make(count: int) -> list[NDArray[np.uint8]]:
        bits = np.unpackbits(np.arange(count, dtype=np.uint8)[:, None], axis=1) * 255
        return list(np.tile(np.repeat(bits, 8, axis=1)[:, None, :, None], (1, 48, 1, 3)))

    return make
