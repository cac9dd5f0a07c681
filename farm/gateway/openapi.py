"""The description of the API (OpenAPI 3.1), made from the contract, and a page of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from html import escape
from typing import Any

from farm.gateway.envelope import Envelope, Policy
from farm.job import JobRequest, Result

JOB = "the job: id, status, delayTime and executionTime in ms, output, error"
ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
ENDPOINT = {
    "name": "endpoint",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "description": "any name: a gateway serves one farm",
}
WAIT = {
    "name": "wait",
    "in": "query",
    "schema": {"type": "integer", "minimum": 1_000, "maximum": 300_000, "default": 90_000},
    "description": "milliseconds to wait for the end",
}

CALLS = (
    ("post", "run", "Submit a job", "id and status"),
    ("post", "runsync", "Submit a job and wait for its end", JOB),
    ("get", "status/{id}", "A job's state, its progress or its result", JOB),
    ("get", "status-sync/{id}", "The same, after its end or the wait", JOB),
    ("get", "stream/{id}", "Finished chunks and the result, each once", "status and stream"),
    ("post", "cancel/{id}", "End a job", "id and status"),
    ("post", "retry/{id}", "Submit a failed job again, under a new id", JOB),
    ("post", "purge-queue", "End the jobs that have not started", "removed and status"),
    ("get", "health", "Your jobs and the farm's workers by state", "jobs and workers"),
)
ERRORS = {
    "400": "the request is invalid; the error names field, value and what is allowed",
    "401": "the key is missing, wrong or revoked",
    "404": "there is no such job of yours",
    "413": "the body is too long",
    "429": "the key's rate or quota is used up; see Retry-After",
    "503": "the farm does not answer at the moment",
}


@cache
def description() -> dict[str, Any]:
    """The API in OpenAPI."""
    schemas: dict[str, Any] = {}
    for model in (JobRequest, Policy, Result):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "infinitetalk-farm",
            "version": "2",
            "description": "Talking videos, by Runpod's queue API",
        },
        "security": [{"key": []}],
        "paths": {f"/v2/{{endpoint}}/{path}": dict(_path(path)) for _, path, _, _ in CALLS},
        "components": {
            "schemas": {**schemas, "Envelope": _envelope()},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _path(path: str) -> Iterator[tuple[str, Any]]:
    for method, each, summary, answer in CALLS:
        if each != path:
            continue
        call: dict[str, Any] = {"summary": summary, "responses": dict(_responses(answer))}
        call["parameters"] = [ENDPOINT, *([ID] if "{id}" in path else [])]
        if "sync" in path:
            call["parameters"].append(WAIT)
        if path in ("run", "runsync"):
            reference = {"$ref": "#/components/schemas/Envelope"}
            content = {"application/json": {"schema": reference}}
            call["requestBody"] = {"required": True, "content": content}
        yield method, call


def _responses(answer: str) -> Iterator[tuple[str, Any]]:
    for status, meaning in {"200": answer, **ERRORS}.items():
        yield status, {"description": meaning}


def _envelope() -> dict[str, Any]:
    """Its input is the contract's request, which is checked by itself."""
    schema = Envelope.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    schema["properties"]["input"] = {"$ref": "#/components/schemas/JobRequest"}
    return schema


@cache
def page() -> str:
    """A page of the API without scripts, and without anything of another server."""
    calls = "".join(
        f"<tr><td>{method.upper()}</td><td><code>/v2/ENDPOINT/{escape(path)}</code></td>"
        f"<td>{escape(summary)}</td><td>{escape(answer)}</td></tr>"
        for method, path, summary, answer in CALLS
    )
    fields = "".join(
        f"<tr><td><code>{name}</code></td><td>{escape(field.description or '')}</td></tr>"
        for name, field in JobRequest.model_fields.items()
    )
    return PAGE.format(calls=calls, fields=fields)


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>infinitetalk-farm</title>
<style>body {{ font: 16px system-ui, sans-serif; margin: 2em auto; max-width: 60em; }}
td {{ padding: .2em .6em; vertical-align: top; }}</style>
<h1>infinitetalk-farm</h1>
<p>Talking videos, by Runpod's queue API. Every request has the header
<code>Authorization: Bearer KEY</code>.
The same for programs: <a href="openapi.json">OpenAPI</a>.</p>
<h2>Calls</h2><table>{calls}</table>
<h2>Fields of <code>input</code></h2><table>{fields}</table>
</html>
"""
