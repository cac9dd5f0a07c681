"""Runpod's REST API, as far as it is about serverless endpoints.

It is described at https://docs.runpod.io/api-reference-v2/overview.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from farm.errors import InvalidInput, printable, shorten
from farm.net.runpod import (
    FIRST_DELAY_S,
    MAX_DELAY_S,
    RETRY_S,
    Exchanged,
    RunpodUnreachable,
    check_api_key,
    exchange,
    pause,
)
from farm.retry import retry_until

BILLED_DAYS = 30


@dataclass(frozen=True)
class RestApi:
    """Requests raise RunpodUnreachable, and InvalidInput in Runpod's words if they are refused."""

    url: str
    """https://api.runpod.io/v2"""
    key: str = field(repr=False)
    retry_s: float = RETRY_S

    def __post_init__(self) -> None:
        check_api_key(self.key)

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A new endpoint."""
        return self._call("POST", "/serverless", body)

    def endpoint(self, endpoint_id: str) -> dict[str, Any]:
        return self._call("GET", _path(endpoint_id))

    def update(self, endpoint_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The endpoint after the fields of a body were changed."""
        return self._call("PATCH", _path(endpoint_id), body)

    def delete(self, endpoint_id: str) -> None:
        """Ends the workers and all jobs of an endpoint."""
        self._call("DELETE", _path(endpoint_id))

    def workers(self, endpoint_id: str) -> list[dict[str, Any]]:
        return self._list(f"{_path(endpoint_id)}/workers", "workers")

    def gpus(self) -> list[dict[str, Any]]:
        """The catalog: every type of GPU with its pool and its prices."""
        return self._list("/catalog/gpus", "gpus")

    def spent_usd(self, endpoint_id: str) -> float:
        """What an endpoint has cost in the last BILLED_DAYS days."""
        query = f"bucketSize=day&lastN={BILLED_DAYS}&serverlessId={endpoint_id}"
        records = self._list(f"/billing/serverless?{query}", "records")
        return sum(float(record.get("totalAmount") or 0) for record in records)

    def _list(self, path: str, name: str) -> list[dict[str, Any]]:
        found = self._call("GET", path).get(name)
        if not isinstance(found, list):
            raise RunpodUnreachable(f"{self.url}{path}: unexpected answer, without {name}")
        return [each for each in found if isinstance(each, dict)]

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """What is answered; only reading is repeated after what may have had an effect."""

        def is_retryable(error: Exception) -> bool:
            if not isinstance(error, RunpodUnreachable):
                return False
            return method == "GET" or error.accepted is False

        url = f"{self.url.rstrip('/')}{path}"
        return retry_until(
            lambda: _content(exchange(method, url, self.key, body), url),
            timeout_s=self.retry_s,
            is_retryable=is_retryable,
            delay_s=FIRST_DELAY_S,
            max_delay_s=MAX_DELAY_S,
            on_retry=pause,
        )


def endpoint_request(method: str, base_url: str, endpoint_id: str | None = None) -> str:
    """The method and the URL of a request about an endpoint, for people."""
    path = _path(endpoint_id) if endpoint_id else "/serverless"
    return f"{method} {base_url.rstrip('/')}{path}"


def _path(endpoint_id: str) -> str:
    if not re.fullmatch("[A-Za-z0-9_-]{1,64}", endpoint_id):
        shown = shorten(repr(endpoint_id))
        raise InvalidInput(f"endpoint: got {shown}; allowed: an id with A-Z a-z 0-9 _ -")
    return f"/serverless/{endpoint_id}"


def _content(answer: Exchanged, url: str) -> dict[str, Any]:
    status = answer.status
    if status == 429:
        raise RunpodUnreachable(f"{url}: too many requests", accepted=False, pause_s=answer.pause_s)
    if status >= 500:
        raise RunpodUnreachable(f"{url}: HTTP {status} ({_reason(answer)})", pause_s=answer.pause_s)
    if status in (401, 403):
        raise InvalidInput(f"RUNPOD_API_KEY: Runpod refuses it for this ({_reason(answer)})")
    if status >= 300:
        raise InvalidInput(
            f"endpoint: Runpod refuses the request (HTTP {status}: {_reason(answer)})"
        )
    if answer.content is None and status != 204:
        raise RunpodUnreachable(f"{url}: unexpected answer ({answer.shown})")
    return answer.content or {}


def _reason(answer: Exchanged) -> str:
    """The sentence of a problem as RFC 9457 describes it, with the errors in single fields."""
    problem = answer.content or {}
    sentences = [problem.get("detail") or problem.get("title") or answer.shown]
    for error in problem.get("errors") or ():
        parts = error.values() if isinstance(error, dict) else [error]
        sentences.append(": ".join(str(part) for part in parts))
    return "; ".join(printable(shorten(str(sentence))) for sentence in sentences)
