"""The requests of clients: `/v2/{endpoint}/run` and the rest."""

from __future__ import annotations

import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.runpod.endpoint import Endpoint
from tests.support.runpod.job import RemoteJob

RUN_BYTES = 10_000_000
RUNSYNC_BYTES = 20_000_000
WAIT_MS = (1_000, 90_000, 300_000)
"""The least, the default and the longest wait of runsync and status-sync."""


async def run(request: Request) -> Response:
    job = await _endpoint(request).submit(await _body(request, RUN_BYTES))
    return JSONResponse({"id": job.id, "status": "IN_QUEUE"})


async def runsync(request: Request) -> Response:
    body = await _body(request, RUNSYNC_BYTES)
    job = await _endpoint(request).submit(body, is_sync=True)
    return await _ended(request, job)


async def status(request: Request) -> Response:
    return JSONResponse(_job(request).view())


async def status_sync(request: Request) -> Response:
    return await _ended(request, _job(request))


async def stream(request: Request) -> Response:
    job = _job(request)
    parts, job.streamed = job.parts[job.streamed :], len(job.parts)
    return JSONResponse({"status": job.status, "stream": [{"output": each} for each in parts]})


async def cancel(request: Request) -> Response:
    job = _job(request)
    await _endpoint(request).cancel(job)
    return JSONResponse({"id": job.id, "status": job.status})


async def retry(request: Request) -> Response:
    job = _job(request)
    if job.status not in ("FAILED", "TIMED_OUT"):
        raise HTTPException(400, "only failed and timed out jobs can be retried")
    await _endpoint(request).retry(job)
    return JSONResponse({"id": job.id, "status": job.status})


async def purge_queue(request: Request) -> Response:
    return JSONResponse({"removed": await _endpoint(request).purge(), "status": "completed"})


async def health(request: Request) -> Response:
    return JSONResponse(_endpoint(request).health())


def routes() -> list[Route]:
    """Each is named as its operation."""
    of_jobs = [
        Route(f"/v2/{{endpoint}}/{name}/{{job_id}}", handler, methods=[method], name=name)
        for name, handler, method in (
            ("status", status, "GET"),
            ("status-sync", status_sync, "GET"),
            ("stream", stream, "GET"),
            ("cancel", cancel, "POST"),
            ("retry", retry, "POST"),
        )
    ]
    return of_jobs + [
        Route(f"/v2/{{endpoint}}/{name}", handler, methods=[method], name=name)
        for name, handler, method in (
            ("run", run, "POST"),
            ("runsync", runsync, "POST"),
            ("purge-queue", purge_queue, "POST"),
            ("health", health, "GET"),
        )
    ]


async def _ended(request: Request, job: RemoteJob) -> Response:
    """The job once it has ended, or as it is after the wait that the client asks for."""
    least, default, longest = WAIT_MS
    wait_ms = min(longest, max(least, int(request.query_params.get("wait", default))))
    await _endpoint(request).wait(lambda: job.ended, wait_ms / 1000)
    return JSONResponse(job.view())


def _endpoint(request: Request) -> Endpoint:
    endpoint: Endpoint = request.state.endpoint
    return endpoint


def _job(request: Request) -> RemoteJob:
    job = _endpoint(request).jobs.get(request.path_params["job_id"])
    if job is None:
        raise HTTPException(404, "job not found")
    return job


async def _body(request: Request, limit: int) -> dict[str, Any]:
    content = await request.body()
    if len(content) > limit:
        raise HTTPException(413, "request body too large")
    try:
        body = json.loads(content)
    except ValueError:
        raise HTTPException(400, "invalid JSON") from None
    if not isinstance(body, dict) or not isinstance(body.get("input"), dict):
        raise HTTPException(400, "input is missing")
    return body
