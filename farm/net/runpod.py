"""Runpod's queue API as its clients use it: the jobs of one serverless endpoint.

What it answers is described at https://docs.runpod.io/serverless/endpoints/operation-reference.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from urllib3 import BaseHTTPResponse, PoolManager, Timeout
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
)

from farm.errors import FarmUnreachable, InvalidInput, shorten
from farm.retry import retry_until

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
RETRY_S = 30.0
"""How long a request is repeated while the API is down or asks for a pause."""

FIRST_DELAY_S = 1.0
MAX_DELAY_S = 10.0
CONNECTIONS = 256
"""Kept open: a bridge asks for each of its jobs from a thread of its own."""

MAX_BYTES = 32_000_000
"""A response is no longer than this; Runpod's own limit for a result is 20 MB."""

RemoteState = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]

ENDED: frozenset[RemoteState] = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})


class RemoteStatus(BaseModel):
    """A job of an endpoint; times in milliseconds. Fields that Runpod adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    status: RemoteState
    output: Any = None
    error: Any = None
    delay_ms: int = Field(0, alias="delayTime")
    """From submission to start."""
    execution_ms: int = Field(0, alias="executionTime")
    worker_id: str | None = Field(None, alias="workerId")

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class RunpodUnreachable(FarmUnreachable):
    """The API did not answer, or did so in a way that says nothing about the job."""

    def __init__(self, message: str, *, accepted: bool | None = None, pause_s: float = 0) -> None:
        """`accepted`: False if the request has certainly had no effect; None if it may have had.

        `pause_s`: how long the API asked to wait.
        """
        super().__init__(message)
        self.accepted = accepted
        self.pause_s = pause_s


@dataclass(frozen=True)
class QueueApi:
    """The queue of one endpoint. All methods may be called from many threads."""

    url: str
    """https://api.runpod.ai/v2/{endpoint}, or that of a gateway."""
    key: str = field(repr=False)
    retry_s: float = RETRY_S

    def run(self, body: Mapping[str, Any]) -> str:
        """The id of a new job.

        Repeated only after what certainly was not accepted. Raises RunpodUnreachable, and
        InvalidInput if the endpoint, the key or the body is refused.
        """
        answer = self._call("POST", "run", body, repeatable=False)
        if answer is None:
            raise InvalidInput(
                f"endpoint: {self.url} is unknown to Runpod; allowed: an endpoint id"
            )
        return self._parse(answer).id

    def status(self, job_id: str) -> RemoteStatus | None:
        """A job as it is now; None if it is unknown or forgotten."""
        answer = self._call("GET", f"status/{quote(job_id, safe='')}")
        return None if answer is None else self._parse(answer)

    def cancel(self, job_id: str) -> bool:
        """Ends a job; False if it is unknown."""
        return self._call("POST", f"cancel/{quote(job_id, safe='')}", {}) is not None

    def stream(self, job_id: str) -> tuple[RemoteState, list[Any]] | None:
        """The state of a job, and what it has yielded since the last call; None if it is unknown.

        Not repeated: each part is delivered once.
        """
        answer = self._call("GET", f"stream/{quote(job_id, safe='')}", repeatable=False)
        if answer is None:
            return None
        parts = answer.get("stream") or []
        return answer["status"], [part["output"] for part in parts]

    def health(self) -> dict[str, Any]:
        """Jobs and workers of the endpoint by state; InvalidInput if there is no such endpoint."""
        answer = self._call("GET", "health")
        if answer is None:
            raise InvalidInput(
                f"endpoint: {self.url} is unknown to Runpod; allowed: an endpoint id"
            )
        return answer

    def _parse(self, answer: dict[str, Any]) -> RemoteStatus:
        try:
            return RemoteStatus.model_validate(answer)
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"]
            raise RunpodUnreachable(f"{self.url}: unexpected answer ({reason})") from None

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        repeatable: bool = True,
    ) -> dict[str, Any] | None:
        """The answer as an object; None for 404.

        A request that is not repeatable is sent again only if it has certainly had no effect.
        """

        def is_retryable(error: Exception) -> bool:
            return isinstance(error, RunpodUnreachable) and (repeatable or error.accepted is False)

        return retry_until(
            lambda: self._send(method, path, body),
            timeout_s=self.retry_s,
            is_retryable=is_retryable,
            delay_s=FIRST_DELAY_S,
            max_delay_s=MAX_DELAY_S,
            on_retry=_pause,
        )

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> dict[str, Any] | None:
        headers = {"Authorization": f"Bearer {self.key}", "Accept": "application/json"}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(body).encode()
        try:
            response = _pool().request(
                method,
                f"{self.url}/{path}",
                body=content,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
            )
            try:
                text = response.read(MAX_BYTES, decode_content=True)
            finally:
                response.release_conn()
        except HTTPError as error:
            raise _unreachable(self.url, error) from error
        return _answer_of(response, text, self.url)


def _answer_of(response: BaseHTTPResponse, text: bytes, url: str) -> dict[str, Any] | None:
    """The object that a response holds; None for 404. Raises as `QueueApi.run`."""
    status = response.status
    shown = shorten(text.decode(errors="replace").strip())
    if status == 404:
        return None
    if status == 429:
        pause_s = _seconds(response.headers.get("Retry-After"))
        raise RunpodUnreachable(f"{url}: too many requests", accepted=False, pause_s=pause_s)
    if status >= 500 or status == 408:
        raise RunpodUnreachable(f"{url}: HTTP {status} ({shown})")
    if status in (401, 403):
        raise InvalidInput(f"RUNPOD_API_KEY: {url} refuses it (HTTP {status})")
    if status >= 300:
        raise InvalidInput(f"endpoint: {url} refuses the request (HTTP {status}: {shown})")
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise RunpodUnreachable(f"{url}: unexpected answer ({shown})")
    return answer


def _unreachable(url: str, error: HTTPError) -> RunpodUnreachable:
    cause = error.reason if isinstance(error, MaxRetryError) else error
    never_sent = isinstance(cause, NewConnectionError | ConnectTimeoutError | NameResolutionError)
    reason = f"{type(cause).__name__}: {cause}"
    return RunpodUnreachable(f"{url}: {reason}", accepted=False if never_sent else None)


def _pause(error: Exception, delay_s: float) -> None:
    """Waits as long as the API asked, as far as the delay to come is shorter."""
    if isinstance(error, RunpodUnreachable):
        time.sleep(max(0.0, min(error.pause_s, MAX_DELAY_S) - delay_s))


def _seconds(retry_after: str | None) -> float:
    """The seconds of a Retry-After header; 0 for none, or for a date."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else 0.0


@cache
def _pool() -> PoolManager:
    """One for the process: it keeps connections to each host."""
    timeout = Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S)
    return PoolManager(maxsize=CONNECTIONS, timeout=timeout)
