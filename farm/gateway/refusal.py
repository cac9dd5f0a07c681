"""Requests that are answered with an error: the status, the contract's error, the headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import ceil
from typing import Any

from farm.errors import (
    FarmError,
    FarmUnreachable,
    InvalidInput,
    QuotaExceeded,
    UploadFailed,
    error_from_code,
)
from farm.store import Store
from farm.store.local import LocalStore

AT_STAGE = "request"
RETRY_S = 5
"""What a client is told to wait while the farm does not answer."""

CLOSE = {"Connection": "close"}
"""For a request whose body was not read to its end."""

NO_ANSWER = FarmUnreachable("the farm does not answer at the moment; try again")
INTERNAL = FarmError("an error of the gateway, which its log describes")


class Refusal(Exception):
    """What is answered in place of a result."""

    def __init__(
        self, status: int, error: FarmError, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error
        self.headers = headers or {}

    @property
    def body(self) -> dict[str, Any]:
        error = {**error_object(self.error), "mistakes": mistakes(self.error.message)}
        return {"error": error}


def error_object(error: FarmError) -> dict[str, Any]:
    """The contract's error, without what it was raised from."""
    bare = error_from_code(error.code, error.message, retryable=error.retryable)
    return bare.describe(at_stage=AT_STAGE)


PARTS = re.compile(
    r"(?P<field>[A-Za-z][\w.-]*|.+(?=: there is no such field)): "
    r"(?:got (?P<value>'(?:[^'\\]|\\.)*'|[^;]*))?.*?(?:\ballowed: (?P<allowed>.+))?"
)
"""`FIELD: got VALUE; REASON; allowed: WHAT`, as each mistake in a request is written."""


def mistakes(message: str) -> list[dict[str, str | None]]:
    """What each line of a message says is wrong: the field, the value and what is allowed, as far
    as it names them. Empty for a message about no field.
    """
    found = (PARTS.fullmatch(line) for line in message.splitlines())
    return [{"message": each[0], **each.groupdict()} for each in found if each]


def refuse(status: int, message: str, headers: Mapping[str, str] | None = None) -> Refusal:
    return Refusal(status, InvalidInput(message), headers)


def check_store(store: Store) -> None:
    """Raises InvalidInput for a folder, whose paths say nothing to those who have a key."""
    if isinstance(store, LocalStore):
        raise InvalidInput(
            "FARM_STORE_URL: the gateway has keys, and got a folder, whose URLs their holders "
            "cannot read; allowed: s3://bucket/prefix, or the calls under /v1, which send videos"
        )


def unknown_job(job_id: str) -> Refusal:
    """The same for a job of another tenant."""
    return refuse(404, f"id: got {job_id[:80]!r}; there is no such job")


def refusal_of(error: FarmError) -> Refusal:
    """What an error of the farm becomes; where its broker or store is stays inside."""
    match error:
        case InvalidInput():
            return Refusal(400, error)
        case QuotaExceeded():
            return Refusal(429, error, retry_after(error.retry_after_s))
        case FarmUnreachable() | UploadFailed():
            return Refusal(503, NO_ANSWER, retry_after(RETRY_S))
        case _:
            return Refusal(500, INTERNAL)


def retry_after(seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {"Retry-After": str(max(1, ceil(seconds)))}
