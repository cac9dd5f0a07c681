"""The contract's status of a job, out of what Runpod says about it.

The endpoint's handler reports progress as `{"stage", "pct", "details", "warnings", "counter"}`, a
gateway without the counter, and both end with the contract's result or error object.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from farm.errors import Cancelled, FarmError, InvalidInput, TimedOut, WorkerLost, abridge
from farm.job import Failure, JobStatus, Result, State
from farm.net.runpod import RemoteStatus

RETENTION_MIN = 30
"""For which Runpod keeps a result, in minutes."""


class Progress(BaseModel):
    """The progress that a handler reported last; Runpod delivers reports in any order."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    counter: int = -1
    """It begins anew when another worker runs the job again."""
    stage: str = "queued"
    pct: Annotated[float, Field(ge=0, le=100)] = 0
    details: dict[str, Any] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @classmethod
    def read(cls, output: Any) -> Progress | None:
        """The progress in the output of a running job; None if that is anything else."""
        try:
            return cls.model_validate(output)
        except ValidationError:
            return None

    def advanced(self, later: Progress | None, *, rerun: bool = False) -> Progress:
        """The later of two, by their counters; the percentage never falls."""
        if later is None or (later.counter < self.counter and not rerun):
            return self
        return later.model_copy(update={"pct": max(self.pct, later.pct)})


def advance(status: JobStatus, remote: RemoteStatus, progress: Progress, now: float) -> JobStatus:
    """The status of a job after what Runpod says about it now."""
    status = status.model_copy(update={"started_at": _started_at(status, remote)})
    if remote.status == "COMPLETED":
        return _completed(status, remote.output, now)
    if remote.ended:
        state: State = "cancelled" if remote.status == "CANCELLED" else "error"
        return failed(status, _failure(remote, status.stage), now, state)
    update = {
        "state": "queued" if remote.status == "IN_QUEUE" else "running",
        "stage": progress.stage,
        "pct": max(status.pct, progress.pct),
        "details": progress.details,
        "warnings": progress.warnings,
    }
    return status.model_copy(update={**update, "updated_at": now})


def _started_at(status: JobStatus, remote: RemoteStatus) -> float | None:
    """When a worker began with it; None if that is not known, or none has."""
    has_started = remote.status == "IN_PROGRESS" or remote.execution_ms > 0
    if has_started and remote.delay_ms > 0:
        return status.created_at + remote.delay_ms / 1000
    return status.started_at


def forgotten(status: JobStatus, now: float) -> JobStatus:
    """The status of a job that Runpod does not know any more."""
    message = (
        f"Runpod has forgotten the job: it keeps a result for {RETENTION_MIN} minutes, and a "
        "waiting job for its ttl"
    )
    return failed(status, TimedOut(message), now)


def failed(
    status: JobStatus, error: FarmError | Failure, now: float, state: State = "error"
) -> JobStatus:
    """The status of a job that has ended without a video."""
    if isinstance(error, FarmError):
        error = Failure.model_validate(error.describe(at_stage=status.stage))
    result = Result(job_id=status.job_id, status="error", error=error)
    details = {"code": error.code, "message": error.message}
    update = {"state": state, "stage": state, "details": details, "result": result}
    return status.model_copy(update={**update, "updated_at": now})


def _completed(status: JobStatus, output: Any, now: float) -> JobStatus:
    """A generator's output is the list of all that it yielded, the result at last."""
    last = output[-1] if isinstance(output, list) and output else output
    result = _read_result(last)
    if result is None:
        message = (
            "endpoint: its output is not the contract's result; "
            "allowed: an endpoint that runs farm.runpod.handler, or a gateway"
        )
        return failed(status, InvalidInput(message), now)
    if result.error is not None or result.video is None:
        return failed(status, result.error or WorkerLost("the result has no video"), now)
    update = {"state": "success", "stage": "completed", "pct": 100.0, "details": {}}
    own = result.model_copy(update={"job_id": status.job_id})
    update |= {"result": own, "warnings": own.warnings}
    return status.model_copy(update={**update, "updated_at": now})


def _read_result(output: Any) -> Result | None:
    try:
        return Result.model_validate_json(json.dumps(output))
    except (ValidationError, ValueError):
        return None


def _failure(remote: RemoteStatus, stage: str) -> FarmError | Failure:
    """The contract's error object, or an error for what Runpod or another program did."""
    error = _parsed(remote.error)
    result = _read_result(remote.output)
    if result is not None and result.error is not None:
        return result.error
    with suppress(ValidationError, TypeError):
        return Failure.model_validate({"at_stage": stage, **error})
    if remote.status == "CANCELLED":
        return Cancelled(f"cancelled at {stage}")
    if remote.status == "TIMED_OUT":
        return TimedOut(
            "Runpod ended the job at its executionTimeout or ttl; "
            "allowed: higher limits (execution_s and ttl_s), or the endpoint's timeout"
        )
    # Of the SDK's own object the message alone: it has a traceback and the worker's host name, too.
    reason = error.get("error_message", "") if isinstance(error, dict) else error
    return WorkerLost(abridge(f"the endpoint's worker failed: {reason or 'it gave no reason'}"))


def _parsed(error: Any) -> Any:
    """Runpod passes some error objects on as their JSON."""
    try:
        return json.loads(error) if isinstance(error, str) else error
    except (ValueError, RecursionError):
        return error
