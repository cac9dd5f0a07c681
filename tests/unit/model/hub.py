"""A hub on this machine that behaves like the real one as far as a download needs.

A branch is resolved to a commit, and a commit to itself; all commits have the same files. A file's
address gives commit, ETag and size; large files are redirected to another server, as to a content
network. Ranges are served. A transfer can be cut or held in the middle, a repository gated, and a
file announced with a size that it does not have.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "5" * 40
"""What `main` is."""
LARGE = 100_000
"""Bytes from which a file is on the other server."""


@dataclass
class Hub:
    """Files by repository and path, the requests so far, and the faults to come."""

    files: dict[str, dict[str, bytes]]
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, path and headers of each request."""
    cuts: list[int] = field(default_factory=list)
    """Bytes after which the next transfers of large files are cut."""
    held: threading.Event = field(default_factory=threading.Event)
    """Set when a transfer has reached `hold` bytes, and stays there."""
    hold: int | None = None
    damage: bool = False
    serves_ranges: bool = True
    gated: set[str] = field(default_factory=set)
    """Repositories that are listed, but whose files are for accounts that accepted their terms."""
    announced: dict[str, int] = field(default_factory=dict)
    """Sizes by file that are told instead of the real ones, of files that are never transferred."""
    main: str = COMMIT
    answer: str | None = None
    """The commit that every revision is said to be, if not its own."""
    url: str = ""
    network: str = ""

    def transfers(self, part: str) -> list[str | None]:
        """The ranges that were requested of large files with `part` in their path."""
        return [
            headers.get("range")
            for method, path, headers in self.requests
            if method == "GET" and f"/cdn/{part}" in path
        ]


@contextmanager
def opened(files: dict[str, dict[str, bytes]]) -> Iterator[Hub]:
    """A running hub."""
    hub = Hub(files)
    handler = type("Handler", (HubHandler,), {"hub": hub})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.url, hub.network = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


class HubHandler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.requests.append((self.command, self.path, headers))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", self.path):
            self._information(found[1], found[2])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path):
            self._address(found[1], found[2], found[3])
        elif found := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(.+)", self.path):
            self._content(self.hub.files[found[1]][found[2]], {})
        else:
            self._refuse("EntryNotFound")

    def _information(self, repository: str, revision: str) -> None:
        if repository not in self.hub.files:
            self._refuse("RepoNotFound", 401)
        elif revision != "main" and not re.fullmatch("[0-9a-f]{40}", revision):
            self._refuse("RevisionNotFound")
        else:
            commit = self.hub.main if revision == "main" else revision
            about = {"id": repository, "sha": self.hub.answer or commit, "siblings": []}
            self._answer(200, json.dumps(about).encode())

    def _address(self, repository: str, commit: str, file: str) -> None:
        content = self.hub.files[repository].get(file)
        size = self.hub.announced.get(file, len(content or b""))
        if repository in self.hub.gated:
            self._refuse("GatedRepo", 403)
        elif content is None:
            self._refuse("EntryNotFound")
        elif size < LARGE:
            self._content(
                content,
                {
                    "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
                    "X-Repo-Commit": commit,
                },
            )
        else:
            about = {
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Linked-Size": size,
            }
            place = {
                "Location": f"{self.hub.network}/cdn/{repository}/{file}",
                "X-Repo-Commit": commit,
            }
            self._answer(302, b"", {**about, **place})

    def _content(self, content: bytes, headers: dict[str, Any]) -> None:
        asked = self.headers.get("Range") if self.hub.serves_ranges else None
        begin = int((asked or "bytes=0-")[6:].rstrip("-"))
        whole = (
            {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"} if begin else {}
        )
        self._answer(206 if begin else 200, content[begin:], {**headers, **whole})

    def _refuse(self, code: str, status: int = 404) -> None:
        self._answer(status, b"", {"X-Error-Code": code, "X-Repo-Commit": COMMIT})

    def _answer(self, status: int, body: bytes, headers: dict[str, Any] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Length": len(body),
            **(headers or {}),
        }.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self._send(bytes(len(body)) if self.hub.damage and len(body) >= LARGE else body)

    def _send(self, body: bytes) -> None:
        if self.hub.hold is not None and len(body) > self.hub.hold:
            self.wfile.write(body[: self.hub.hold])
            self.hub.held.set()
            self.rfile.read(1)  # until the other side is gone
            self.close_connection = True
        elif self.hub.cuts and len(body) > LARGE:
            self.wfile.write(body[: self.hub.cuts.pop(0)])
            self.close_connection = True
        else:
            self.wfile.write(body)
