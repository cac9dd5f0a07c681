"""How the page shows a job, as HTML."""

from __future__ import annotations

from html import escape
from typing import Any

from farm.client.progress import detail, stage
from farm.job import Event, JobStatus

COLOURS = {"success": "#22a06b", "error": "#c9372c", "cancelled": "#8590a2"}
RUNNING = "#1d7afc"
BAR = (
    '<div class="job" data-state="{state}">'
    '<div role="progressbar" aria-valuenow="{pct:.0f}" '
    'style="background: #8883; border-radius: 6px">'
    '<div style="width: {pct:.1f}%; height: 12px; border-radius: 6px; background: {colour}"></div>'
    "</div><div>{text}</div>{remarks}</div>"
)


def bar(status: JobStatus) -> str:
    """A progress bar with the stage, the warnings, and the error of a job that has failed."""
    event = Event(stage=status.stage, pct=status.pct, job_id=status.job_id, details=status.details)
    parts = [f"{status.pct:.0f} %"]
    if status.ended:
        parts.append(status.state)
    else:
        parts += [stage(event), detail(event)]
    return BAR.format(
        state=status.state,
        pct=status.pct,
        colour=COLOURS.get(status.state, RUNNING),
        text=escape(" · ".join(part for part in parts if part)),
        remarks=_remarks(status),
    )


def _remarks(status: JobStatus) -> str:
    """The warnings of a job, and its error."""
    remarks = [f'<p role="status">{escape(warning)}</p>' for warning in status.warnings]
    if status.result and status.result.error:
        remarks.append(alert(status.result.error.code, status.result.error.message))
    return "".join(remarks)


def alert(code: str, message: str) -> str:
    """An error, which screen readers announce, with a line for each mistake."""
    text = escape(message)
    return f'<p role="alert" style="white-space: pre-line"><b>{code}</b> {text}</p>'


def list_item(status: JobStatus, prompt: str, *, chosen: bool) -> dict[str, Any]:
    """A job in the list of jobs; its `line` is HTML."""
    state: str = status.state
    if state == "running":
        state = f"{state} {status.pct:.0f} %"
    return {
        "id": status.job_id,
        "line": escape(f"{prompt} · {state} · {status.job_id}"),
        "chosen": chosen,
    }
