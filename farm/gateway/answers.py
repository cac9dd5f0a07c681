"""Jobs of the farm as Runpod's clients know them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farm.errors import TimedOut
from farm.job import JobStatus, State

IN_QUEUE = "IN_QUEUE"

STATES: Mapping[State, str] = {
    "queued": IN_QUEUE,
    "running": "IN_PROGRESS",
    "success": "COMPLETED",
    "error": "FAILED",
    "cancelled": "CANCELLED",
}


def state_of(status: JobStatus) -> str:
    if status.state == "error" and status.details.get("code") == TimedOut.code:
        return "TIMED_OUT"
    return STATES[status.state]


def brief(status: JobStatus) -> dict[str, Any]:
    """A job by its id and state."""
    return {"id": status.job_id, "status": state_of(status)}


def whole(status: JobStatus, *, now: float, queue_position: int | None) -> dict[str, Any]:
    """A job with its times in milliseconds, and its output: its progress, or its result.

    A job that failed has its error twice: Runpod's Python client drops `error`, and returns
    `output`.
    """
    answer = {**brief(status), **_times(status, now)}
    result = status.result
    if result is None:
        return {**answer, "output": _progress(status, queue_position)}
    answer["output"] = result.model_dump(mode="json", exclude_none=True)
    if result.error is not None:
        answer["error"] = result.error.model_dump(mode="json")
    return answer


def _times(status: JobStatus, now: float) -> dict[str, int]:
    """The time before the first step, and the time since; 0 for a job that has not started."""
    until = status.updated_at if status.ended else now
    started_at = status.started_at or until
    return {
        "delayTime": _milliseconds(started_at - status.created_at),
        "executionTime": _milliseconds(until - started_at),
    }


def _progress(status: JobStatus, queue_position: int | None) -> dict[str, Any]:
    """The contract's event, the estimate of what is left, and how many messages are before it."""
    return {
        "stage": status.stage,
        "pct": status.pct,
        "job_id": status.job_id,
        "details": status.details,
        "warnings": status.warnings,
        "eta_s": status.details.get("eta_s"),
        "queue_position": queue_position,
    }


def _milliseconds(seconds: float) -> int:
    return round(1000 * max(0.0, seconds))
