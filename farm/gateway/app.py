"""The HTTP API: routes, and what is common to all requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from anyio import move_on_after, to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Match, Route

from farm.client import Farm
from farm.errors import FarmError, shorten
from farm.gateway.access import Access, Tenant
from farm.gateway.answers import IN_QUEUE
from farm.gateway.body import Limits, parse_object, read_body
from farm.gateway.counters import CountedApp, Counters
from farm.gateway.entrance import Entrance
from farm.gateway.envelope import Envelope
from farm.gateway.openapi import RUNPOD, description, page
from farm.gateway.refusal import INTERNAL, Refusal, refusal_of, refuse
from farm.gateway.service import Service, has_ended
from farm.gateway.v1.api import JobsApi
from farm.gateway.watch import Watch
from farm.logs import log

MIN_WAIT_MS, DEFAULT_WAIT_MS, MAX_WAIT_MS = 1_000, 90_000, 300_000
STREAM_WAIT_S = 5.0
"""How long /stream waits for a part: Runpod's Python client gives up after 10 s."""


class Gateway:
    """The API of a farm. `is_open`: without keys it serves those who can reach loopback."""

    def __init__(self, farm: Farm, *, is_open: bool, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.watch = Watch(farm.context.registry.jobs.texts)
        self.counters = Counters(waits=lambda: len(self.watch))
        self._entrance = Entrance(Access(farm, is_open=is_open), self.limits)
        self._service = Service(farm.context)
        self._jobs_api = JobsApi(farm, self._entrance, self.watch)

    @property
    def app(self) -> CountedApp:
        """The ASGI application."""
        handlers: dict[Any, Any] = {
            Refusal: _answer_refusal,
            FarmError: _answer_error,
            HTTPException: _answer_http_error,
            Exception: _answer_fault,
        }
        app = Starlette(routes=self.routes(), exception_handlers=handlers)
        app.router.redirect_slashes = False
        return CountedApp(app, self.counters)

    def routes(self) -> list[Route]:
        routes = [
            ("POST", "run", self._run),
            ("POST", "runsync", self._run_sync),
            ("GET", "status/{id}", self._status),
            ("GET", "status-sync/{id}", self._status_sync),
            ("GET", "stream/{id}", self._stream),
            ("POST", "cancel/{id}", self._cancel),
            ("POST", "retry/{id}", self._retry),
            ("POST", "purge-queue", self._purge),
            ("GET", "health", self._health),
        ]
        return [
            *(Route(f"{RUNPOD}/{path}", call, methods=[method]) for method, path, call in routes),
            *self._jobs_api.routes(),
            Route("/healthz", _is_alive),
            Route("/readyz", self._is_ready),
            Route("/metrics", self._metrics),
            Route("/openapi.json", _openapi),
            Route("/docs", _docs),
        ]

    async def _run(self, request: Request) -> Response:
        submitted = await self._submit(request, self.limits.run_bytes)
        return JSONResponse({"id": submitted["id"], "status": submitted["status"]})

    async def _run_sync(self, request: Request) -> Response:
        wait_s = _wait_s(request)
        tenant = await self._entrance.tenant(request)
        submitted = await self._submit(request, self.limits.runsync_bytes, tenant)
        return await self._after_wait(tenant, submitted["id"], wait_s)

    async def _status(self, request: Request) -> Response:
        tenant = await self._entrance.tenant(request)
        return await _answer(self._service.status, tenant, request.path_params["id"])

    async def _status_sync(self, request: Request) -> Response:
        wait_s = _wait_s(request)
        tenant = await self._entrance.tenant(request)
        job_id = request.path_params["id"]
        return await self._after_wait(tenant, job_id, wait_s)

    async def _after_wait(self, tenant: Tenant, job_id: str, wait_s: float) -> Response:
        pending = await to_thread.run_sync(self._service.pending, tenant, job_id)
        with move_on_after(wait_s):
            for each in pending:
                await self.watch.wait(each, has_ended, wait_s)
        return await _answer(self._service.status, tenant, job_id)

    async def _stream(self, request: Request) -> Response:
        """Waits for the first new part, or for the end."""
        tenant = await self._entrance.tenant(request)
        job_id = request.path_params["id"]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STREAM_WAIT_S
        while True:
            answer = await to_thread.run_sync(self._service.parts, tenant, job_id)
            left_s = deadline - loop.time()
            is_live = answer["status"] in (IN_QUEUE, "IN_PROGRESS")
            if answer["stream"] or not is_live or left_s <= 0:
                return JSONResponse(answer)
            for each in (await to_thread.run_sync(self._service.pending, tenant, job_id))[:1]:
                await self.watch.wait(each, _changes(), left_s)
            if self.watch.is_closed:
                return JSONResponse(answer)

    async def _cancel(self, request: Request) -> Response:
        tenant = await self._entrance.tenant_without_body(request)
        return await _answer(self._service.cancel, tenant, request.path_params["id"])

    async def _retry(self, request: Request) -> Response:
        tenant = await self._entrance.tenant_without_body(request)
        return await _answer(self._service.retry, tenant, request.path_params["id"])

    async def _purge(self, request: Request) -> Response:
        return await _answer(self._service.purge, await self._entrance.tenant_without_body(request))

    async def _health(self, request: Request) -> Response:
        return await _answer(self._service.health, await self._entrance.tenant(request))

    async def _is_ready(self, _: Request) -> Response:
        await to_thread.run_sync(self._service.is_ready)
        return PlainTextResponse("ready\n")

    async def _metrics(self, _: Request) -> Response:
        text = await to_thread.run_sync(self.counters.exposition)
        return PlainTextResponse(text)

    async def _submit(
        self, request: Request, max_bytes: int, tenant: Tenant | None = None
    ) -> dict[str, Any]:
        tenant = tenant or await self._entrance.tenant(request)
        body = await read_body(request, max_bytes, self.limits)
        return await self._entrance.submit(
            lambda: self._service.submit(tenant, Envelope.parse(parse_object(body)))
        )


async def _answer(call: Callable[..., dict[str, Any]], *arguments: Any) -> Response:
    return JSONResponse(await to_thread.run_sync(call, *arguments))


def _changes() -> Callable[[str | None], bool]:
    """Whether a record is another than the first one that is seen, or of a job that has ended."""
    first: list[str | None] = []

    def until(text: str | None) -> bool:
        first.append(text)
        return text != first[0] or has_ended(text)

    return until


def _wait_s(request: Request) -> float:
    """The seconds of ?wait= in milliseconds."""
    text = request.query_params.get("wait", str(DEFAULT_WAIT_MS))
    if not (text.isascii() and text.isdecimal() and MIN_WAIT_MS <= int(text[:9]) <= MAX_WAIT_MS):
        allowed = f"milliseconds, {MIN_WAIT_MS} to {MAX_WAIT_MS}"
        raise refuse(400, f"wait: got {text[:80]!r}; allowed: {allowed}")
    return int(text) / 1000


async def _is_alive(_: Request) -> Response:
    return PlainTextResponse("alive\n")


async def _openapi(_: Request) -> Response:
    return JSONResponse(description())


async def _docs(_: Request) -> Response:
    return HTMLResponse(page())


async def _answer_refusal(_: Request, refusal: Refusal) -> Response:
    return JSONResponse(refusal.body, refusal.status, refusal.headers)


async def _answer_error(request: Request, error: FarmError) -> Response:
    if refusal_of(error).status >= 500:
        log("gateway_error", level=logging.ERROR, code=error.code, reason=error.message)
    return await _answer_refusal(request, refusal_of(error))


async def _answer_http_error(request: Request, error: HTTPException) -> Response:
    """No such route, or another method than its own."""
    if error.status_code == 405:
        allowed = _methods(request)
        refusal = refuse(405, f"method: got {request.method!r}; allowed: {allowed}")
        return JSONResponse(refusal.body, refusal.status, {"Allow": allowed})
    path = shorten(repr(request.url.path))
    refusal = refuse(error.status_code, f"path: got {path}; allowed: those of /docs")
    return JSONResponse(refusal.body, refusal.status, error.headers)


def _methods(request: Request) -> str:
    """Those of all routes with the request's path; Starlette names the first one's."""
    routes = [each for each in request.app.routes if each.matches(request.scope)[0] != Match.NONE]
    return ", ".join(sorted(method for route in routes for method in route.methods))


async def _answer_fault(request: Request, _: Exception) -> Response:
    return await _answer_refusal(request, Refusal(500, INTERNAL))
