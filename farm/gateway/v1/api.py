"""The routes of /v1."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from farm.client import Farm
from farm.gateway.access import Tenant
from farm.gateway.body import parse_object, read_body
from farm.gateway.entrance import Entrance
from farm.gateway.refusal import refuse
from farm.gateway.v1.answers import ESTIMATES, JOBS, VOICES, Estimated, Job, VoiceList
from farm.gateway.v1.events import follow, has_more, parse_position
from farm.gateway.v1.form import Given, read_form
from farm.gateway.v1.pages import Query, check_names, page
from farm.gateway.v1.signed import Signer
from farm.gateway.v1.submission import Submission, contract_errors
from farm.gateway.v1.uploads import Room
from farm.gateway.v1.watching import content, playlist, segment, thumbnail
from farm.gateway.video import Video
from farm.gateway.watch import Watch
from farm.job import named_as
from farm.job.contract import Contract

JSON = "application/json"
FORM = "multipart/form-data"
SIGNATURE = "signature"
HLS = "application/vnd.apple.mpegurl"
EVENTS = "text/event-stream"


Handler = Callable[[Request], Awaitable[Response]]
Fields = dict[str, Any]
"""Of the contract's request."""
Found = TypeVar("Found")


class JobsApi:
    def __init__(self, farm: Farm, entrance: Entrance, watch: Watch) -> None:
        self._farm = farm
        self._ctx = farm.context
        self._entrance = entrance
        self._watch = watch
        self._room = Room(farm.context.settings.gateway_upload_bytes)

    def routes(self) -> list[Route]:
        job = JOBS + "/{id}"
        routes: list[tuple[str, str, Handler]] = [
            ("POST", JOBS, self._submit),
            ("GET", JOBS, self._list),
            ("POST", ESTIMATES, self._estimate),
            ("GET", VOICES, self._voices),
            ("GET", job, self._show),
            ("DELETE", job, self._delete),
            ("POST", job + "/cancel", self._cancel),
            ("POST", job + "/retry", self._retry),
            ("GET", job + "/events", _shared(self._events)),
            ("GET", job + "/content", _shared(self._content)),
            ("GET", job + "/thumbnail", _shared(self._thumbnail)),
            ("GET", job + "/playlist.m3u8", _shared(self._playlist)),
            ("GET", job + "/segments/{chunk}/{name}", _shared(self._segment)),
        ]
        return [Route(path, call, methods=[method]) for method, path, call in routes]

    async def _submit(self, request: Request) -> Response:
        submission = Submission.parse(request)
        job = await self._with_fields(request, partial(self._submitted, submission))
        return _answer(job, 201, Location=job.links.job)

    async def _estimate(self, request: Request) -> Response:
        return _answer(await self._with_fields(request, _estimated))

    def _submitted(self, submission: Submission, tenant: Tenant, fields: Fields) -> Job:
        with submission.of(fields) as whole:
            return Job.of_video(Video.submit(self._ctx, tenant, whole, submission.limits))

    async def _with_fields(
        self, request: Request, call: Callable[[Tenant, Fields], Found]
    ) -> Found:
        """What a call makes of the request in a body, for its tenant; raises Refusal."""
        tenant = await self._entrance.tenant(request)
        limits = self._entrance.limits
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == JSON:
            body = await read_body(request, limits.run_bytes, limits)
            return await self._entrance.submit(
                lambda: _checked(call, tenant, Given(parse_object(body)))
            )
        if kind != FORM:
            raise refuse(415, f"Content-Type: got {kind[:80]!r}; allowed: {JSON}, {FORM}")
        with self._room.upload(tenant.caller) as upload:
            given = await read_form(request, upload, self._ctx.settings, limits)
            owner = tenant.with_files(upload.folder)
            return await self._entrance.submit(lambda: _checked(call, owner, given))

    async def _list(self, request: Request) -> Response:
        tenant = await self._entrance.tenant(request)
        query = Query.parse(request.query_params)
        registry = self._ctx.registry
        return _answer(await to_thread.run_sync(page, registry, tenant.caller, query))

    async def _voices(self, request: Request) -> Response:
        tenant = await self._entrance.tenant(request)
        check_names(request.query_params, "language")
        language = request.query_params.get("language")
        with contract_errors():
            voices = await to_thread.run_sync(tenant.farm.voices, language)
        return _answer(VoiceList(voices=tuple(voices)))

    async def _show(self, request: Request) -> Response:
        video = await self._find(request, await self._entrance.tenant(request))
        return _answer(await to_thread.run_sync(Job.of_video, video))

    async def _delete(self, request: Request) -> Response:
        """Removes a job for good; one that goes on is cancelled first."""
        video = await self._find(request, await self._entrance.tenant_without_body(request))
        await to_thread.run_sync(video.delete)
        return Response(status_code=204)

    async def _cancel(self, request: Request) -> Response:
        """Ends a job; one that has ended stays as it is."""
        video = await self._find(request, await self._entrance.tenant_without_body(request))
        return _answer(await to_thread.run_sync(lambda: Job.of_video(video.cancelled())))

    async def _retry(self, request: Request) -> Response:
        """Submits a job that ended without a video again."""
        video = await self._find(request, await self._entrance.tenant_without_body(request))
        job = await self._entrance.submit(lambda: _retried(video))
        return _answer(job, 201, Location=job.links.job)

    async def _events(self, request: Request) -> Response:
        """204 where nothing follows: browsers then take up the stream no more."""
        video = await self._watched(request)
        position = parse_position(request.headers.get("last-event-id"))
        jobs, job_id = self._ctx.registry.jobs, video.status.job_id
        if not await to_thread.run_sync(has_more, jobs, job_id, position):
            return Response(status_code=204)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        if request.method == "HEAD":  # whose answer would end with the job
            return Response(None, 200, headers, EVENTS)
        events = follow(jobs, self._watch, job_id, position)
        return StreamingResponse(events, 200, headers, EVENTS)

    async def _content(self, request: Request) -> Response:
        video = await self._watched(request)
        return (await to_thread.run_sync(content, video)).response(request)

    async def _thumbnail(self, request: Request) -> Response:
        video = await self._watched(request)
        return (await to_thread.run_sync(thumbnail, video)).response(request)

    async def _playlist(self, request: Request) -> Response:
        video = await self._watched(request)
        query = f"?{request.query_params}" if SIGNATURE in request.query_params else ""
        text = await to_thread.run_sync(playlist, video, query)
        return Response(text, headers={"Cache-Control": "no-cache"}, media_type=HLS)

    async def _segment(self, request: Request) -> Response:
        video = await self._watched(request)
        chunk, name = request.path_params["chunk"], request.path_params["name"]
        media = await to_thread.run_sync(segment, video, chunk, name)
        return media.response(request)

    async def _watched(self, request: Request) -> Video:
        """The job of a signed link, or one of the tenant's."""
        if SIGNATURE not in request.query_params:
            return await self._find(request, await self._entrance.tenant(request))

        def signed() -> Video:
            job_id = request.path_params["id"]
            Signer.of(self._ctx.registry).check(job_id, request.query_params)
            return Video.find(self._ctx, Tenant(self._farm), job_id)

        return await to_thread.run_sync(signed)

    async def _find(self, request: Request, tenant: Tenant) -> Video:
        job_id = request.path_params["id"]
        return await to_thread.run_sync(Video.find, self._ctx, tenant, job_id)


def _checked(call: Callable[[Tenant, Fields], Found], tenant: Tenant, given: Given) -> Found:
    with contract_errors(), named_as(given.names):
        return call(tenant, given.fields)


def _retried(video: Video) -> Job:
    status = video.status
    if not status.without_video:
        raise refuse(409, f"id: the job is {status.state}; allowed: one that is error or cancelled")
    with contract_errors():
        return Job.of_video(video.retried())


def _estimated(tenant: Tenant, fields: Fields) -> Estimated:
    return Estimated.of(tenant.farm.estimate(tenant.with_priority(fields)))


def _shared(call: Handler) -> Handler:
    """A call whose answers to signed links a web page of any origin may read."""

    async def answered(request: Request) -> Response:
        response = await call(request)
        if SIGNATURE in request.query_params:
            response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    return answered


def _answer(answer: Contract, status: int = 200, **headers: str) -> Response:
    return Response(answer.model_dump_json(), status, headers, media_type=JSON)
