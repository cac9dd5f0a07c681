"""Runpod's queue API as its clients use it: the jobs of one serverless endpoint.

What it answers is described at https://docs.runpod.io/serverless/endpoints/operation-reference.
`exchange` is one request to it, or to Runpod's REST API.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from urllib3 import BaseHTTPResponse, PoolManager, Timeout
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
)

from farm.errors import FarmUnreachable, InvalidInput, QuotaExceeded, abridge, printable, shorten
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

USER_AGENT = "infinitetalk-farm"
"""Runpod's REST API answers 403 to the names of some libraries."""

RemoteState = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]

ENDED: frozenset[RemoteState] = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})

Milliseconds = Annotated[int, BeforeValidator(lambda value: round(value or 0))]
"""0 as long as Runpod has null."""


JOB_ID = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"
"""An id may become a part of a path, here and at those who keep something by it."""


class _Answer(BaseModel):
    """Fields that Runpod adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class RemoteStatus(_Answer):
    """A job of an endpoint; times in milliseconds."""

    id: str = Field(pattern=JOB_ID)
    status: RemoteState
    output: Any = None
    error: Any = None
    delay_ms: Milliseconds = Field(0, alias="delayTime")
    """From submission to start."""
    execution_ms: Milliseconds = Field(0, alias="executionTime")
    worker_id: str | None = Field(None, alias="workerId")

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class _Part(_Answer):
    output: Any = None


class _Stream(_Answer):
    status: RemoteState
    stream: tuple[_Part, ...] = ()


class _Error(_Answer):
    """The contract's error object, as far as a client goes by it."""

    code: str
    message: str
    retryable: bool = False


class _Refusal(_Answer):
    error: _Error


Parsed = TypeVar("Parsed", bound=_Answer)


class RequestRefused(InvalidInput):
    """The API accepts the key, but not this request."""


class RunpodUnreachable(FarmUnreachable):
    """The API did not answer, or did so in a way that says nothing about the job."""

    def __init__(
        self,
        message: str,
        *,
        retryable: bool | None = None,
        accepted: bool | None = None,
        pause_s: float = 0,
    ) -> None:
        """`accepted`: False if the request has certainly had no effect; None if it may have had.

        `pause_s`: how long the API asked to wait.
        """
        super().__init__(message, retryable=retryable)
        self.accepted = accepted
        self.pause_s = pause_s


@dataclass(frozen=True)
class QueueApi:
    """The queue of one endpoint. All methods may be called from many threads.

    Raises InvalidInput for a key that no header can hold.
    """

    url: str
    """https://api.runpod.ai/v2/{endpoint}, or that of a gateway."""
    key: str = field(repr=False)
    retry_s: float = RETRY_S

    @classmethod
    def of_endpoint(cls, base_url: str, endpoint: str, key: str) -> Self:
        """The queue of an endpoint below the base URL of Runpod, or of a gateway."""
        return cls(f"{base_url.rstrip('/')}/{quote(endpoint, safe='')}", key)

    def __post_init__(self) -> None:
        check_api_key(self.key)

    def run(self, body: Mapping[str, Any]) -> str:
        """The id of a new job.

        Repeated only after what certainly was not accepted. Raises RunpodUnreachable,
        InvalidInput if the endpoint, the key or the body is refused, and QuotaExceeded.
        """
        answer = self._call("POST", "run", body, repeatable=False)
        if answer is None:
            raise self._unknown_endpoint()
        return self._parse(RemoteStatus, answer).id

    def status(self, job_id: str) -> RemoteStatus | None:
        """A job as it is now; None if it is unknown or forgotten."""
        answer = self._call_job("GET", "status", job_id)
        return None if answer is None else self._parse(RemoteStatus, answer)

    def cancel(self, job_id: str) -> bool:
        """Ends a job; False if it is unknown."""
        return self._call_job("POST", "cancel", job_id, {}) is not None

    def stream(self, job_id: str) -> tuple[RemoteState, list[Any]] | None:
        """The state of a job, and what it has yielded since the last call; None if it is unknown.

        Not repeated: each part is delivered once.
        """
        answer = self._call_job("GET", "stream", job_id, repeatable=False)
        if answer is None:
            return None
        stream = self._parse(_Stream, answer)
        return stream.status, [part.output for part in stream.stream]

    def health(self) -> dict[str, Any]:
        """Jobs and workers of the endpoint by state; InvalidInput if there is no such endpoint."""
        answer = self._call("GET", "health")
        if answer is None:
            raise self._unknown_endpoint()
        return answer

    def _unknown_endpoint(self) -> InvalidInput:
        base_url, _, _ = self.url.rpartition("/")
        hint = "" if base_url.endswith("/v2") else "; the base URL ends with /v2"
        return InvalidInput(f"endpoint: {self.url} is unknown there; allowed: an endpoint id{hint}")

    def _parse(self, model: type[Parsed], answer: dict[str, Any]) -> Parsed:
        try:
            return model.model_validate(answer)
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"]
            raise RunpodUnreachable(f"{self.url}: unexpected answer ({reason})") from None

    def _call_job(
        self,
        method: str,
        operation: str,
        job_id: str,
        body: Mapping[str, Any] | None = None,
        *,
        repeatable: bool = True,
    ) -> dict[str, Any] | None:
        """As `_call`, about one job. Nothing is sent for an id that would lead to another path."""
        if not job_id.strip("."):
            return None
        path = f"{operation}/{quote(job_id, safe='')}"
        return self._call(method, path, body, repeatable=repeatable)

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        repeatable: bool = True,
    ) -> dict[str, Any] | None:
        """The answer as an object; None for 404.

        A request that is not repeatable is sent again only if it has certainly had no effect; one
        that exceeds a quota, only if there is room again in time.
        """
        deadline = time.monotonic() + self.retry_s

        def is_retryable(error: Exception) -> bool:
            if isinstance(error, QuotaExceeded):
                return _has_room_by(deadline, error)
            return isinstance(error, RunpodUnreachable) and (repeatable or error.accepted is False)

        return retry_until(
            lambda: _object_in(exchange(method, f"{self.url}/{path}", self.key, body), self.url),
            timeout_s=self.retry_s,
            is_retryable=is_retryable,
            delay_s=FIRST_DELAY_S,
            max_delay_s=MAX_DELAY_S,
            on_retry=pause,
        )


@dataclass(frozen=True)
class Exchanged:
    """What was answered to one request, whatever its status."""

    status: int
    text: str
    """Without the key, should the other side repeat it."""
    shown: str
    """How the text begins, for an error."""
    pause_s: float
    """How long it asked to wait."""

    @property
    def content(self) -> dict[str, Any] | None:
        """The JSON object that the text is; None if it is none."""
        try:
            parsed = json.loads(self.text)
        except (ValueError, RecursionError):
            return None
        return parsed if isinstance(parsed, dict) else None


def exchange(method: str, url: str, key: str, body: Mapping[str, Any] | None) -> Exchanged:
    """Sends one request and returns what is answered; redirects are not followed.

    Raises RunpodUnreachable if there is no answer, or one of more than MAX_BYTES.
    """
    headers = {
        "Authorization": f"Bearer {key}",
        "Accept": "application/json",
        "User-Agent": USER_AGENT,
    }
    content = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        content = json.dumps(body).encode()
    try:
        response = _pool().request(
            method,
            url,
            body=content,
            headers=headers,
            redirect=False,
            retries=False,
            preload_content=False,
        )
        text = _read(response, url).replace(key, "***")
    except HTTPError as error:
        raise _unreachable(url, error) from error
    shown = printable(shorten(text[:1000].strip()))
    return Exchanged(response.status, text, shown, _seconds(response.headers.get("Retry-After")))


def check_api_key(key: str) -> None:
    """Raises InvalidInput, which does not show the key, if no header can hold it."""
    if not (key and key.isascii() and key.isprintable() and " " not in key):
        raise InvalidInput(
            "RUNPOD_API_KEY: got a secret, which is not shown; "
            "allowed: visible ASCII characters, without blanks and line breaks"
        )


def pause(error: Exception, delay_s: float) -> None:
    """Waits as long as the API asked, as far as the delay to come is shorter."""
    if isinstance(error, QuotaExceeded):
        time.sleep(max(0.0, (error.retry_after_s or 0.0) - delay_s))
    if isinstance(error, RunpodUnreachable):
        time.sleep(max(0.0, min(error.pause_s, MAX_DELAY_S) - delay_s))


def _read(response: BaseHTTPResponse, url: str) -> str:
    """The body of a response; its connection is kept only if there is nothing left to read."""
    content = response.read(MAX_BYTES + 1, decode_content=True)
    if len(content) > MAX_BYTES:
        response.close()
        raise RunpodUnreachable(f"{url}: it answered with more than {MAX_BYTES:,} bytes")
    response.release_conn()
    return content.decode(errors="replace")


def _object_in(answer: Exchanged, url: str) -> dict[str, Any] | None:
    """The object in an answer; None for 404. Raises as `QueueApi.run`."""
    status = answer.status
    if status == 404:
        return None
    if status >= 500 or status == 408:
        raise RunpodUnreachable(f"{url}: HTTP {status} ({answer.shown})", pause_s=answer.pause_s)
    if status in (401, 403):
        raise InvalidInput(f"RUNPOD_API_KEY: {url} refuses it (HTTP {status})")
    if status >= 400:
        _raise_refusal(answer)
    if status == 429:
        raise RunpodUnreachable(f"{url}: too many requests", accepted=False, pause_s=answer.pause_s)
    if status >= 300:
        raise RequestRefused(f"endpoint: {url} refuses the request (HTTP {status}: {answer.shown})")
    if answer.content is None:
        raise RunpodUnreachable(f"{url}: unexpected answer ({answer.shown})")
    return answer.content


def _raise_refusal(answer: Exchanged) -> None:
    """Raises the contract's error for a request, as a gateway answers it; nothing without one."""
    try:
        error = _Refusal.model_validate(answer.content).error
    except ValidationError:
        return
    message = printable(abridge(error.message))
    if error.code == QuotaExceeded.code:
        raise QuotaExceeded(
            message, retryable=error.retryable, retry_after_s=answer.pause_s or None
        )
    if error.code == InvalidInput.code:
        raise RequestRefused(message)


def _has_room_by(deadline: float, error: QuotaExceeded) -> bool:
    """Whether a quota has room again before a time of `time.monotonic`."""
    if not error.retryable or error.retry_after_s is None:
        return False
    return time.monotonic() + error.retry_after_s <= deadline


def _unreachable(url: str, error: HTTPError) -> RunpodUnreachable:
    never_sent = isinstance(error, NewConnectionError | ConnectTimeoutError | NameResolutionError)
    return RunpodUnreachable(f"{url}: {_in_words(error)}", accepted=False if never_sent else None)


def _in_words(error: HTTPError) -> str:
    """Why there was no answer; of what is rare, in the library's words."""
    if isinstance(error.__cause__, ConnectionRefusedError):
        return "connection refused; is it running?"
    match error:
        case NameResolutionError():
            return "its host name is unknown"
        case ConnectTimeoutError():
            return f"no connection within {CONNECT_TIMEOUT_S:g} s"
        case ReadTimeoutError():
            return f"no answer within {READ_TIMEOUT_S:g} s"
        case _:
            return f"{type(error).__name__}: {error}"


def _seconds(retry_after: str | None) -> float:
    """The seconds of a Retry-After header; 0 for none, or for a date."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else 0.0


@cache
def _pool() -> PoolManager:
    """One for the process: it keeps connections to each host."""
    timeout = Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S)
    return PoolManager(maxsize=CONNECTIONS, timeout=timeout)
