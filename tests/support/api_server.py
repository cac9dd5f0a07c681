"""A JSON API on 127.0.0.1 that answers as a test has scripted it, and keeps what it was asked."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

from tests.support.serving import serving


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Answer:
    """`status` 0 closes the connection without an answer."""

    status: int
    body: bytes
    headers: dict[str, str]


@dataclass
class ApiServer:
    """The answers to a request are given in turn; the last one again and again."""

    port: int
    requests: list[Request] = field(default_factory=list)
    answers: dict[str, deque[Answer]] = field(default_factory=lambda: defaultdict(deque))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v2"

    def script(self, request: str, content: Any = None, status: int = 200, **headers: str) -> None:
        """Adds an answer to a request such as `GET /v2/ep/health`: bytes, or an object as JSON."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[request].append(Answer(status, body, named))

    def asked(self, request: str) -> list[Request]:
        return [each for each in self.requests if str(each) == request]

    def answer(self, request: Request) -> Answer:
        answers = self.answers[str(request)]
        if not answers:
            return Answer(404, b"{}", {})
        return answers.popleft() if len(answers) > 1 else answers[0]


Server = TypeVar("Server", bound=ApiServer)


@contextmanager
def api_server(kind: Callable[[int], Server] = ApiServer) -> Iterator[Server]:
    """A running server; an `ApiServer` answers 404 to everything that is not scripted."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Request(self.command, self.path, dict(self.headers), body)
            server.requests.append(request)
            answer = server.answer(request)
            if answer.status == 0:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = do_PATCH = do_DELETE = _reply

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.block_on_close = False  # clients keep their connections open
    server = kind(http.server_port)
    with serving(http):
        yield server
