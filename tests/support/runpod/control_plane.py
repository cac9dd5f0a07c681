"""The requests of the SDK's worker loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.runpod.endpoint import Endpoint
from tests.support.runpod.job import RemoteJob

Value = TypeVar("Value")


async def job_take(request: Request) -> Response:
    jobs = await _taken(request, 1)
    return JSONResponse(_handed(jobs[0])) if jobs else Response(status_code=204)


async def job_take_batch(request: Request) -> Response:
    jobs = await _taken(request, int(request.query_params["batch_size"]))
    return JSONResponse([_handed(job) for job in jobs]) if jobs else Response(status_code=204)


async def job_stop(request: Request) -> Response:
    stops = await _while_connected(request, _endpoint(request).stops(request.path_params["worker"]))
    return JSONResponse({"jobsToStop": stops}) if stops else Response(status_code=204)


async def ping(request: Request) -> Response:
    _endpoint(request).ping(request.path_params["worker"])
    return Response()


async def job_done(request: Request) -> Response:
    """A result, or progress, as JSON that the SDK declares to be a form."""
    worker, job_id = request.path_params["worker"], request.path_params["job_id"]
    await _endpoint(request).post(job_id, worker, json.loads(await request.body()))
    return Response()


async def job_stream(request: Request) -> Response:
    part = json.loads(await request.body())
    await _endpoint(request).add_part(request.path_params["job_id"], part)
    return Response()


def routes() -> list[Route]:
    """Each is named as its operation."""
    of_workers = [
        Route(f"/v2/{{endpoint}}/{name}/{{worker}}", handler, methods=["GET"], name=name)
        for name, handler in (
            ("job-take", job_take),
            ("job-take-batch", job_take_batch),
            ("job-stop", job_stop),
            ("ping", ping),
        )
    ]
    return of_workers + [
        Route(
            f"/v2/{{endpoint}}/{name}/{{worker}}/{{job_id}}", handler, methods=["POST"], name=name
        )
        for name, handler in (("job-done", job_done), ("job-stream", job_stream))
    ]


async def _taken(request: Request, count: int) -> list[RemoteJob]:
    taking = _endpoint(request).take(request.path_params["worker"], count)
    return await _while_connected(request, taking) or []


async def _while_connected(request: Request, coroutine: Coroutine[Any, Any, Value]) -> Value | None:
    """What it returns; None if the worker has closed the connection, as a killed one does."""
    await request.body()
    waiting = asyncio.create_task(coroutine)
    leaving = asyncio.create_task(request.receive())
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else None
    finally:
        waiting.cancel()
        leaving.cancel()


def _endpoint(request: Request) -> Endpoint:
    endpoint: Endpoint = request.state.endpoint
    return endpoint


def _handed(job: RemoteJob) -> dict[str, object]:
    """What a worker is given: no policy."""
    webhook = {"webhook": job.body["webhook"]} if "webhook" in job.body else {}
    return {"id": job.id, "input": job.body["input"], **webhook}
