"""The routes of /v1."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from farm.client import Farm
from farm.errors import IdempotencyConflict, InvalidInput
from farm.gateway.access import Tenant
from farm.gateway.body import parse_object, read_body
from farm.gateway.entrance import Entrance
from farm.gateway.refusal import Refusal, refuse
from farm.gateway.v1.answers import ESTIMATES, JOBS, VOICES, Estimated, Job, VoiceList
from farm.gateway.v1.events import follow, has_more, parse_position
from farm.gateway.v1.form import Given, read_form
from farm.gateway.v1.pages import Query, check_names, page
from farm.gateway.v1.signed import Signer
from farm.gateway.v1.uploads import Room
from farm.gateway.v1.watching import content, playlist, segment
from farm.gateway.video import Video
from farm.gateway.watch import Watch
from farm.job import named_as
from farm.job.contract import Contract
from farm.job.time_limits import NO_LIMITS

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
            ("DELETE", job, self._cancel),
            ("GET", job + "/events", _shared(self._events)),
            ("GET", job + "/content", _shared(self._content)),
            ("GET", job + "/playlist.m3u8", _shared(self._playlist)),
            ("GET", job + "/segments/{chunk}/{name}", _shared(self._segment)),
        ]
        return [Route(path, call, methods=[method]) for method, path, call in routes]

    async def _submit(self, request: Request) -> Response:
        job = await self._with_fields(request, self._submitted)
        return _answer(job, 201, Location=job.links.job)

    async def _estimate(self, request: Request) -> Response:
        return _answer(await self._with_fields(request, _estimated))

    def _submitted(self, tenant: Tenant, fields: Fields) -> Job:
        return Job.of_video(Video.submit(self._ctx, tenant, fields, NO_LIMITS))

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
        try:
            voices = await to_thread.run_sync(tenant.farm.voices, language)
        except InvalidInput as error:
            raise Refusal(422, error) from None
        return _answer(VoiceList(voices=tuple(voices)))

    async def _show(self, request: Request) -> Response:
        video = await self._find(request, await self._entrance.tenant(request))
        return _answer(await to_thread.run_sync(Job.of_video, video))

    async def _cancel(self, request: Request) -> Response:
        """Ends a job; one that has ended stays as it is."""
        video = await self._find(request, await self._entrance.tenant_without_body(request))
        return _answer(await to_thread.run_sync(lambda: Job.of_video(video.cancelled())))

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
        media = await to_thread.run_sync(content, video)
        return media.response(request)

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
    """Raises Refusal: 409 for a used idempotency key, 422 for what the contract refuses."""
    try:
        with named_as(given.names):
            return call(tenant, given.fields)
    except InvalidInput as error:
        raise Refusal(409 if isinstance(error, IdempotencyConflict) else 422, error) from None


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
