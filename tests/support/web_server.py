"""A web server on 127.0.0.1 whose replies a test defines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.serving import serving

Reply = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class WebServer:
    """`replies` maps each path to its reply; `requests` keeps the headers of every request."""

    port: int
    replies: dict[str, Reply] = field(default_factory=dict)
    requests: list[dict[str, str]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def serve(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        """Replies to `path` with `body` from now on; returns its URL."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        def reply(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | named).items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(body)

        self.replies[path] = reply
        return self.url(path)

    def redirect(self, path: str, to: str) -> str:
        """Redirects `path` from now on; returns its URL."""
        return self.serve(path, b"", status=302, Location=to)


class _Server(ThreadingHTTPServer):
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Many tests are about clients that disconnect early, which is no error here."""


@contextmanager
def web_server() -> Iterator[WebServer]:
    """A running server without any replies."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.requests.append(dict(self.headers))
            server.replies[self.path.partition("?")[0]](self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = _Server(("127.0.0.1", 0), Handler)
    server = WebServer(http.server_port)
    with serving(http):
        yield server
