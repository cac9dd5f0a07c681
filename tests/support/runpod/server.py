"""The HTTP server of a fake Runpod, in a thread of its own, and what a test asks of it."""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.support.ports import free_port
from tests.support.runpod import client_api, control_plane
from tests.support.runpod.endpoint import Endpoint, Rules
from tests.support.runpod.faults import Fault, Faults
from tests.support.runpod.job import RemoteJob
from tests.support.waiting import wait_for

KEY = "rpa_for_tests_alone"
BACKLOG = 1024
HELD_POLL_S = 0.02
KEEP_ALIVE_S = 60
"""Longer than the SDK keeps a connection; a result that it posts as the server closes is lost."""

Value = TypeVar("Value")
Handler = Callable[[Request], Awaitable[Response]]


class BrokenResponse(Response):
    """An answer that breaks off: the connection is closed in the middle."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


@dataclass
class FakeRunpod:
    """Methods may be called from any thread; endpoints are made when they are first asked for."""

    rules: Rules = field(default_factory=Rules)
    key: str = KEY
    port: int = field(default_factory=free_port)
    faults: Faults = field(default_factory=Faults)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _server: uvicorn.Server | None = None
    _serving: Any = None

    @property
    def url(self) -> str:
        """What stands for https://api.runpod.ai/v2."""
        return f"http://127.0.0.1:{self.port}/v2"

    def endpoint(self, name: str = "echo") -> Endpoint:
        """The endpoint of this name, which is made if there is none."""

        async def make() -> Endpoint:
            if name not in self.endpoints:
                endpoint = self.endpoints[name] = Endpoint(name, self.rules)
                endpoint.watching = asyncio.create_task(endpoint.watch())
            return self.endpoints[name]

        return self.call(make())

    def submit(self, body: dict[str, Any], endpoint: str = "echo") -> RemoteJob:
        """Queues a job without a request."""
        return self.call(self.endpoint(endpoint).submit(body))

    def finished(self, body: dict[str, Any], endpoint: str = "echo") -> RemoteJob:
        """A job that was queued, once it has ended."""
        job = self.submit(body, endpoint)
        wait_for(lambda: job.ended)
        return job

    def jobs(self, endpoint: str = "echo") -> list[RemoteJob]:
        """Every submission in its order, also those that are forgotten."""
        return self.endpoint(endpoint).all_jobs

    def cancel(self, job: RemoteJob, endpoint: str = "echo") -> None:
        self.call(self.endpoint(endpoint).cancel(job))

    def rerun(self, job: RemoteJob, endpoint: str = "echo") -> None:
        """Hands a job to a worker once more, as Runpod does with those of a lost worker."""
        self.call(self.endpoint(endpoint).retry(job))

    def forget(self, job: RemoteJob, endpoint: str = "echo") -> None:
        """Ends the retention of a job: clients get 404."""
        self.call(self.endpoint(endpoint).forget(job.id))

    @contextmanager
    def away(self, *operations: str, status: int = 503) -> Iterator[None]:
        """Answers some operations so while the block runs."""
        for operation in operations:
            self.faults.add(operation, Fault(status, times=1_000_000))
        try:
            yield
        finally:
            self.faults.clear(*operations)

    @contextmanager
    def down(self) -> Iterator[None]:
        """Refuses every connection while the block runs, and closes those that are open."""
        self._close()
        try:
            yield
        finally:
            self._open()

    def call(self, coroutine: Coroutine[Any, Any, Value]) -> Value:
        """What a coroutine returns in the event loop of the server."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def app(self) -> Starlette:
        routes = [*client_api.routes(), *control_plane.routes()]
        return Starlette(
            routes=[
                Route(route.path, self._guarded(route.endpoint), methods=list(route.methods or ()))
                for route in routes
            ]
        )

    def _guarded(self, handler: Handler) -> Handler:
        """A handler behind the check of the key, and the faults."""

        async def answer(request: Request) -> Response:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self.key.encode()):
                raise HTTPException(401, "unauthorized")
            request.state.endpoint = self.endpoints.get(request.path_params["endpoint"])
            if request.state.endpoint is None:
                raise HTTPException(404, "endpoint not found")
            operation = await _operation(request)
            fault = self.faults.next(operation, request.path_params.get("job_id"))
            return await (_faulty(fault, handler, request) if fault else handler(request))

        return answer

    def _open(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(BACKLOG)
        config = uvicorn.Config(
            self.app(),
            log_config=None,
            lifespan="off",
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self._server = server = uvicorn.Server(config)
        serving = server.serve(sockets=[listener])
        self._serving = asyncio.run_coroutine_threadsafe(serving, self.loop)
        wait_for(lambda: server.started)

    def _close(self) -> None:
        assert self._server is not None
        self._server.should_exit = self._server.force_exit = True
        for connection in list(self._server.server_state.connections):
            self.loop.call_soon_threadsafe(connection.transport.abort)
        self._serving.result()

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


@contextmanager
def fake_runpod(rules: Rules | None = None, endpoint: str = "echo") -> Iterator[FakeRunpod]:
    """A fake that listens while the block runs, with an endpoint."""
    fake = FakeRunpod(rules or Rules())
    thread = threading.Thread(target=fake.loop.run_forever)
    thread.start()
    fake._open()
    fake.endpoint(endpoint)
    try:
        yield fake
    finally:
        fake._close()
        fake.call(fake._cancel_all())
        fake.loop.call_soon_threadsafe(fake.loop.stop)
        thread.join()
        fake.loop.close()


async def _operation(request: Request) -> str:
    name = request.url.path.split("/")[3]
    if name == "job-done":
        result = json.loads(await request.body())
        return "progress" if result.get("status") == "IN_PROGRESS" else name
    return name


async def _faulty(fault: Fault, handler: Handler, request: Request) -> Response:
    while fault.held is not None and not fault.held.is_set():
        await asyncio.sleep(HELD_POLL_S)
    if fault.status is None:
        return await handler(request)
    if fault.takes_effect:
        await handler(request)
    if fault.status == 0:
        return BrokenResponse()
    return Response(fault.body, fault.status, headers=fault.headers)
