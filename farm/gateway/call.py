"""One call of an API, from which both its OpenAPI and its page are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Schema = dict[str, Any]

JSON = "application/json"

ERRORS = {
    400: "the request, or its body, is invalid",
    401: "the key is missing, wrong or revoked",
    404: "there is no such job of yours",
    408: "the body comes too slowly",
    409: "the state of the job, or a used idempotency key, does not allow it",
    413: "the body, or a file in it, is too long",
    415: "the body is of another type",
    416: "the range is beyond the end",
    422: "the request is invalid; the error names field, value and what is allowed",
    429: "the key's rate or quota is used up",
    503: "the farm does not answer at the moment, or has no room for files",
}
"""What the statuses mean."""

WAITING = (409, 429, 503)
"""Statuses that say when to come back, if that is known."""

RETRY_AFTER = {"description": "seconds", "schema": {"type": "integer"}}


def reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


@dataclass(frozen=True)
class Answer:
    """A good answer: its meaning, and what it holds by media type."""

    meaning: str
    content: Mapping[str, Schema] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """With their meanings."""

    def response(self) -> Schema:
        response: Schema = {"description": self.meaning}
        if self.content:
            response["content"] = _content(self.content)
        if self.headers:
            response["headers"] = {
                name: {"description": meaning, "schema": {"type": "string"}}
                for name, meaning in self.headers.items()
            }
        return response


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    name: str
    """Of the operation, as generated clients call it."""
    summary: str
    answers: Mapping[int, Answer]
    errors: tuple[int, ...]
    parameters: tuple[Schema, ...] = ()
    body: Mapping[str, Schema] | None = None
    """By media type."""

    def operation(self, tag: str) -> Schema:
        """The call in OpenAPI."""
        responses = {str(status): answer.response() for status, answer in self.answers.items()}
        operation: Schema = {
            "operationId": self.name,
            "summary": self.summary,
            "tags": [tag],
            "parameters": list(self.parameters),
            "responses": responses | {str(status): _problem(status) for status in self.errors},
        }
        if self.body is not None:
            operation["requestBody"] = {"required": True, "content": _content(self.body)}
        return operation


def parameter(place: str, name: str, description: str, **schema: Any) -> Schema:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": description,
        "schema": {"type": "string", **schema},
    }


def _content(schemas: Mapping[str, Schema]) -> Schema:
    return {kind: {"schema": schema} for kind, schema in schemas.items()}


def _problem(status: int) -> Schema:
    response: Schema = {
        "description": ERRORS[status],
        "content": _content({JSON: reference("Problem")}),
    }
    if status in WAITING:
        response["headers"] = {"Retry-After": RETRY_AFTER}
    return response
