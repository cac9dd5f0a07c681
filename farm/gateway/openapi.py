"""The description of the API (OpenAPI 3.1), made from the contract, and a page of it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from html import escape
from typing import Any, Literal

from pydantic import BaseModel

from farm.gateway.call import Answer, Call, Schema, parameter, reference
from farm.gateway.envelope import Envelope, Policy
from farm.gateway.v1 import calls as v1
from farm.gateway.v1.answers import Estimated, Job, JobPage, Problem, VoiceList
from farm.job import Event, JobRequest

RUNPOD = "/v2/{endpoint}"
TAG = "runpod"
ENDPOINT = parameter("path", "endpoint", "any name: a gateway serves one farm")
WAIT = parameter(
    "query", "wait", "milliseconds to wait for the end", type="integer", minimum=1_000,
    maximum=300_000, default=90_000,
)  # fmt: skip
JOB = "the job: id, status, delayTime and executionTime in ms, output, error"
ERRORS = (400, 401, 404, 408, 409, 413, 429, 503)


def _runpod(method: str, path: str, summary: str, answer: str) -> Call:
    name, _, rest = path.partition("/")
    parameters = [ENDPOINT, *([v1.ID] if rest else []), *([WAIT] if "sync" in name else [])]
    body = {"application/json": reference("Envelope")} if name in ("run", "runsync") else None
    return Call(
        method,
        f"{RUNPOD}/{path}",
        f"runpod_{name.replace('-', '_')}",
        summary,
        {200: Answer(answer)},
        ERRORS,
        tuple(parameters),
        body,
    )


CALLS = (
    _runpod("post", "run", "Submit a job", "id and status"),
    _runpod("post", "runsync", "Submit a job and wait for its end", JOB),
    _runpod("get", "status/{id}", "A job's state, its progress or its result", JOB),
    _runpod("get", "status-sync/{id}", "The same, after its end or the wait", JOB),
    _runpod("get", "stream/{id}", "Finished chunks and the result, each once", "status and stream"),
    _runpod("post", "cancel/{id}", "End a job", "id and status"),
    _runpod("post", "retry/{id}", "Submit a failed job again, under a new id", JOB),
    _runpod("post", "purge-queue", "End the jobs that have not started", "removed and status"),
    _runpod("get", "health", "Your jobs and the farm's workers by state", "jobs and workers"),
)


@cache
def description() -> dict[str, Any]:
    """The API in OpenAPI."""
    paths: dict[str, Schema] = {}
    for tag, calls in ((v1.TAG, v1.CALLS), (TAG, CALLS)):
        for call in calls:
            paths.setdefault(call.path, {})[call.method] = call.operation(tag)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "infinitetalk-farm",
            "version": "1",
            "description": "Talking videos: jobs as resources, and Runpod's queue API",
        },
        "security": [{"key": []}],
        "tags": [
            {"name": v1.TAG, "description": "the farm's own API"},
            {"name": TAG, "description": "the same farm for clients of Runpod"},
        ],
        "paths": paths,
        "components": {
            "schemas": {
                **_schemas("validation", JobRequest, Policy),
                **_schemas("serialization", Event, Estimated, Job, JobPage, Problem, VoiceList),
                "JobForm": v1.job_form(),
                "Envelope": _envelope(),
            },
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(
    mode: Literal["validation", "serialization"], *models: type[BaseModel]
) -> dict[str, Schema]:
    """The schemas of what is read, or of what is answered, and of their parts."""
    schemas: dict[str, Schema] = {}
    for model in models:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}", mode=mode)
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    return schemas


def _envelope() -> Schema:
    """Its input is the contract's request, which is checked by itself."""
    schema = Envelope.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    schema["properties"]["input"] = reference("JobRequest")
    return schema


@cache
def page() -> str:
    """A page of the API without scripts, and without anything of another server."""
    fields = "".join(
        f"<tr><td><code>{name}</code></td><td>{escape(field.description or '')}</td></tr>"
        for name, field in JobRequest.model_fields.items()
    )
    return PAGE.format(calls=_rows(v1.CALLS), runpod=_rows(CALLS), fields=fields)


def _rows(calls: Iterable[Call]) -> str:
    return "".join(
        f"<tr><td>{call.method.upper()}</td><td><code>{escape(call.path)}</code></td>"
        f"<td>{escape(call.summary)}</td>"
        f"<td>{escape(next(iter(call.answers.values())).meaning)}</td></tr>"
        for call in calls
    )


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>infinitetalk-farm</title>
<style>body {{ font: 16px system-ui, sans-serif; margin: 2em auto; max-width: 60em; }}
td {{ padding: .2em .6em; vertical-align: top; }}</style>
<h1>infinitetalk-farm</h1>
<p>Talking videos. Every request has the header <code>Authorization: Bearer KEY</code>.
The same for programs: <a href="openapi.json">OpenAPI</a>.</p>
<h2>Jobs</h2><table>{calls}</table>
<h2>For clients of Runpod</h2><table>{runpod}</table>
<h2>Fields of a job</h2><table>{fields}</table>
</html>
"""
