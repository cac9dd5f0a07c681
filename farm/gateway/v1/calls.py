"""The calls of /v1, as OpenAPI and the page describe them."""

from __future__ import annotations

from typing import get_args

from farm.gateway.call import JSON, Answer, Call, Schema, parameter, reference
from farm.gateway.v1.answers import ESTIMATES, JOBS, VOICES
from farm.gateway.v1.form import FILES
from farm.gateway.v1.pages import DEFAULT_JOBS, MAX_JOBS
from farm.job import SHORT_NAMES, TEXT_FIELDS, JobRequest, State, TimeLimits

TAG = "jobs"

JOB = JOBS + "/{id}"
ID = parameter("path", "id", "of a job of yours")
LIMIT = parameter(
    "query", "limit", "jobs of a page", type="integer", minimum=1, maximum=MAX_JOBS,
    default=DEFAULT_JOBS,
)  # fmt: skip
STATE = parameter("query", "state", "only jobs in it", enum=list(get_args(State)))
CURSOR = parameter("query", "cursor", "next_cursor of the page before")
LANGUAGE = parameter("query", "language", "a code such as de, or a name such as german or deutsch")
IDEMPOTENCY_KEY = parameter(
    "header", "Idempotency-Key", JobRequest.model_fields["idempotency_key"].description or ""
)
LIMITS = tuple(
    parameter("query", name, field.description or "", type="number", exclusiveMinimum=0)
    for name, field in TimeLimits.model_fields.items()
)
LAST_EVENT = parameter("header", "Last-Event-ID", "the id of the last event that was read")
RANGE = parameter("header", "Range", "bytes=FIRST-LAST; of several ranges everything is sent")
IF_NONE_MATCH = parameter("header", "If-None-Match", "the ETag of what the client has")
UNTIL = parameter("query", "until", "of a signed link, which needs no key")
SIGNATURE = parameter("query", "signature", "of a signed link")
IF_RANGE = parameter("header", "If-Range", "the ETag that the range belongs to")

OBJECT_HEADERS = {
    "ETag": "the SHA-256 of the whole file",
    "Repr-Digest": "the same, as RFC 9530 writes it",
}


def _sent(mime: str) -> dict[int, Answer]:
    file: Schema = {mime: {"type": "string", "format": "binary"}}
    return {
        200: Answer("the whole file", file, OBJECT_HEADERS),
        206: Answer("the range", file, OBJECT_HEADERS),
        304: Answer("the client has it"),
    }


SENT, SENT_IMAGE = _sent("video/mp4"), _sent("image/jpeg")
LINK = (UNTIL, SIGNATURE)
MEDIA = (RANGE, IF_NONE_MATCH, IF_RANGE, *LINK)
OWN = (401, 404, 429, 503)
"""Errors of every call about one job."""


def job_form() -> Schema:
    """The contract's request as a form, whose parts are texts or files."""
    fields = JobRequest.model_fields
    return {
        "type": "object",
        "description": "The fields of JobRequest as parts, by these names or by short ones, each "
        "once; all but plain texts are written as JSON",
        "properties": {
            name: {
                "type": "string",
                **({"format": "binary"} if name in FILES else {}),
                "description": f"short for {SHORT_NAMES[name]}"
                if name in SHORT_NAMES
                else fields[name.partition(".")[0]].description,
            }
            for name in (*SHORT_NAMES, *TEXT_FIELDS)
        },
    }


REQUEST = {JSON: reference("JobRequest"), "multipart/form-data": reference("JobForm")}
JOB_ANSWER = Answer("the job", {JSON: reference("Job")})

CALLS = (
    Call(
        "post", JOBS, "submitJob", "Submit a job, with its files if they are here",
        {201: Answer("the new job, or the first with the same idempotency key",
                     {JSON: reference("Job")}, {"Location": "the path of the job"})},
        (400, 401, 408, 409, 413, 415, 422, 429, 503),
        (IDEMPOTENCY_KEY, *LIMITS),
        body=REQUEST,
    ),
    Call(
        "post", ESTIMATES, "estimateJob", "What a job would take; nothing is submitted or kept",
        {200: Answer("the estimate", {JSON: reference("Estimated")})},
        (400, 401, 408, 413, 415, 422, 429, 503),
        body=REQUEST,
    ),
    Call(
        "get", JOBS, "listJobs", "Your jobs, the newest first, in pages",
        {200: Answer("a page", {JSON: reference("JobPage")})},
        (401, 422, 429, 503),
        (LIMIT, STATE, CURSOR),
    ),
    Call(
        "get", VOICES, "listVoices", "The voices that read a text",
        {200: Answer("the voices", {JSON: reference("VoiceList")})},
        (401, 422, 429, 503),
        (LANGUAGE,),
    ),
    Call("get", JOB, "getJob", "A job with its progress, or its result", {200: JOB_ANSWER},
         OWN, (ID,)),
    Call("delete", JOB, "deleteJob", "Remove a job for good, with its video and its uploads",
         {204: Answer("it is removed; a job that went on was cancelled first")}, OWN, (ID,)),
    Call("post", f"{JOB}/cancel", "cancelJob", "End a job; one that has ended stays as it is",
         {200: JOB_ANSWER}, OWN, (ID,)),
    Call(
        "post", f"{JOB}/retry", "retryJob", "Submit a job that ended without a video again",
        {201: Answer("the new job; repeated, the same one, unless that has no video either",
                     {JSON: reference("Job")}, {"Location": "the path of the job"})},
        (*OWN, 409, 422),
        (ID,),
    ),
    Call(
        "get", f"{JOB}/events", "followJob", "The events of a job as they come, up to its last one",
        {200: Answer("Server-Sent Events, whose data is an Event",
                     {"text/event-stream": {"type": "string"}}),
         204: Answer("nothing follows the event that was read last")},
        (*OWN, 422),
        (ID, LAST_EVENT, *LINK),
    ),
    Call("get", f"{JOB}/thumbnail", "getThumbnail", "The first frame of the video",
         SENT_IMAGE, (*OWN, 409, 416), (ID, *MEDIA)),
    Call("get", f"{JOB}/content", "getVideo", "The video, once the job is success", SENT,
         (*OWN, 409, 416), (ID, *MEDIA)),
    Call(
        "get", f"{JOB}/playlist.m3u8", "getPlaylist", "The growing HLS playlist of the video",
        {200: Answer("the segments so far",
                     {"application/vnd.apple.mpegurl": {"type": "string"}})},
        (*OWN, 409),
        (ID, *LINK),
    ),
    Call(
        "get", f"{JOB}/segments/{{chunk}}/{{name}}", "getSegment", "A file of the playlist", SENT,
        (*OWN, 416),
        (ID, parameter("path", "chunk", "its number, from 0", type="integer"),
         parameter("path", "name", "which of its files", enum=["segment.m4s", "init.mp4"]),
         *MEDIA),
    ),
)  # fmt: skip
