"""The gate before Gradio: it lets through what the page uses, and only from the page itself.

Gradio serves 85 routes, some of which open media files with ffmpeg or fetch URLs, and it answers
every origin and every host.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import ExitStack
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

from gradio.routes import App, ORJSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from farm.net.throttle import LoginThrottle
from farm.ui.hosts import Hosts
from farm.ui.uploads import Uploads

LOGIN = "/login"
UPLOAD = "/gradio_api/upload"
FILE = "/gradio_api/file={path_or_url:path}"

GET = (
    "/",
    "/assets/{path:path}",
    "/config",
    "/favicon.ico",
    "/logout",
    "/manifest.json",
    "/robots.txt",
    "/static/{path:path}",
    "/theme.css",
    "/gradio_api/app_id",
    "/gradio_api/heartbeat/{session_hash}",
    "/gradio_api/startup-events",
    "/gradio_api/upload_progress",
    FILE,
)
POST = (
    LOGIN,
    UPLOAD,
    "/gradio_api/run/{api_name}",
)
ROUTES = {"GET": GET, "HEAD": ("/",), "POST": POST}
"""The routes that the page uses, as Gradio writes them."""
PATTERNS = {
    method: {route: compile_path(route)[0] for route in routes} for method, routes in ROUTES.items()
}

MAX_BODY_BYTES = 1_000_000
"""Largest form; its longest field is the text to speak."""
MULTIPART_BYTES = 100_000
"""What an upload may have beside the file: the boundaries and headers of its parts."""

SECURITY_HEADERS = {
    b"content-security-policy": b"frame-ancestors 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"same-origin",  # the page reads its own URL from the referrer
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}


class GatedApp(App):
    """Gradio's app behind the gate.

    `app_kwargs` could put the gate only inside Gradio's own middleware, which answers the CORS
    requests of every origin.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(default_response_class=ORJSONResponse, openapi_url=None)
        self.gate = Gate(super().__call__, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.gate(scope, receive, send)


class Gate:
    """ASGI middleware. `folder` holds all files that the page serves, `uploads` is within it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Hosts,
        folder: Path,
        uploads: Uploads,
        max_file_bytes: int,
    ) -> None:
        self.app = app
        self.hosts = hosts
        self.folder = folder
        self.uploads = uploads
        self.max_upload_bytes = min(max_file_bytes + MULTIPART_BYTES, uploads.max_bytes)
        self.throttle = LoginThrottle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(Request(scope, receive), partial(_send_hardened, send))
        elif scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        else:
            await WebSocketClose()(scope, receive, send)

    async def _answer(self, request: Request, send: Send) -> None:
        """Passes a request to Gradio, or refuses it."""
        path = request.scope["path"]
        try:
            self._check_host(request.headers)
            _check_origin(request.headers, path)
            route = _route(request.method, path)
            if route == FILE:
                self._check_file(path)
            pass_on = {LOGIN: self._log_in, UPLOAD: self._upload}.get(route, self._pass_on)
            await pass_on(request, send)
        except HTTPException as refused:
            text = PlainTextResponse(refused.detail, refused.status_code, refused.headers)
            await text(request.scope, request.receive, send)
        except ClientDisconnect:
            return

    def _check_host(self, headers: Headers) -> None:
        host = headers.get("host", "")
        if host not in self.hosts:
            allowed = "the page's own names and FARM_UI_HOSTS"
            raise HTTPException(421, f"Host: got {host!r}; allowed: {allowed}")

    def _check_file(self, path: str) -> None:
        file = path.partition("=")[2]
        if not _is_inside(file, self.folder):
            raise HTTPException(403, f"file: got {file!r}; allowed: files of the page")

    async def _pass_on(self, request: Request, send: Send) -> None:
        """A request without a body, or with JSON that names uploaded files only."""
        receive = request.receive
        if request.method == "POST":
            body = await _read_body(request)
            self._check_files(body)
            receive = _replay(body, request.receive)
        await self.app(request.scope, receive, send)

    def _check_files(self, body: bytes) -> None:
        """Gradio fetches a file whose path is a URL, in any input of a form."""
        try:
            json.loads(body, object_pairs_hook=self._check_object)
        except (ValueError, RecursionError):
            raise HTTPException(400, "the body is not JSON") from None

    def _check_object(self, pairs: list[tuple[str, Any]]) -> None:
        """Sees repeated names too, of which another parser may take another value."""
        for name, value in pairs:
            is_path = name == "path" and isinstance(value, str)
            if is_path and not _is_inside(value, self.uploads.folder):
                raise HTTPException(403, f"path: got {value!r}; allowed: an uploaded file")

    async def _upload(self, request: Request, send: Send) -> None:
        length = request.headers.get("content-length", "")
        if not length.isdecimal():
            raise HTTPException(411, "Content-Length: it is missing")
        size = int(length)
        if size > self.max_upload_bytes:
            allowed = f"at most {self.max_upload_bytes}"
            raise HTTPException(413, f"Content-Length: got {size}; allowed: {allowed}")
        with ExitStack() as arrival:
            await self.app(request.scope, self._receive_upload(request, size, arrival), send)

    def _receive_upload(self, request: Request, size: int, arrival: ExitStack) -> Receive:
        """Makes room when Gradio begins to read, which it does for visitors with a login only."""
        first = True

        async def receive() -> Message:
            nonlocal first
            if first:
                first = False
                arrival.enter_context(self.uploads.room(size))
            return await request.receive()

        return receive

    async def _log_in(self, request: Request, send: Send) -> None:
        address = request.client.host if request.client else ""
        wait_s = self.throttle.take(address)
        if wait_s:
            retry_after = {"Retry-After": str(ceil(wait_s))}
            raise HTTPException(429, "too many failed logins; try again later", retry_after)

        async def send_and_count(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                self.throttle.put_back(address)
            await send(message)

        body = await _read_body(request)
        await self.app(request.scope, _replay(body, request.receive), send_and_count)


def _check_origin(headers: Headers, path: str) -> None:
    """By the browser's Sec-Fetch-Site, and by Origin, which older browsers have too.

    Links of other sites may lead to the page: a resource isolation policy, as the W3C's Fetch
    Metadata has it.
    """
    site = headers.get("sec-fetch-site", "none")
    is_link = path == "/" and headers.get("sec-fetch-dest") == "document"
    if site not in ("same-origin", "none") and not is_link:
        raise HTTPException(403, f"Sec-Fetch-Site: got {site!r}; allowed: same-origin, none")
    origin = headers.get("origin")
    host = headers.get("host", "")
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        raise HTTPException(403, f"Origin: got {origin!r}; allowed: the Host, which is {host!r}")


def _route(method: str, path: str) -> str:
    """The route of `ROUTES` that a path belongs to; raises HTTPException 404."""
    for route, pattern in PATTERNS.get(method, {}).items():
        if pattern.fullmatch(path):
            return route
    raise HTTPException(404, "the page has no such route")


def _is_inside(path: str, folder: Path) -> bool:
    return Path(os.path.normpath(path)).is_relative_to(folder)


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"the body is too large; allowed: {MAX_BODY_BYTES} bytes")
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Receives a body that was read already, and then what else comes."""
    messages: list[Message] = [{"type": "http.request", "body": body}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


async def _send_hardened(send: Send, message: Message) -> None:
    """Sends a message; a response without CORS headers, and with cookies for this site only."""
    if message["type"] == "http.response.start":
        kept = [
            (name, _same_site(value) if name.lower() == b"set-cookie" else value)
            for name, value in message.get("headers", ())
            if not name.lower().startswith(b"access-control-")
            and name.lower() not in SECURITY_HEADERS
        ]
        message = {**message, "headers": [*kept, *SECURITY_HEADERS.items()]}
    await send(message)


def _same_site(cookie: bytes) -> bytes:
    return re.sub(rb"(?i)samesite=none", b"SameSite=Lax", cookie)
