"""How a job looks on the page."""

from __future__ import annotations

from html import escape
from typing import Any

from farm.client.progress import detail, stage
from farm.job import Event, JobStatus

COLOURS = {"success": "#22a06b", "error": "#c9372c", "cancelled": "#8590a2"}
RUNNING = "#1d7afc"
BAR = (
    '<div class="job" data-state="{state}"><div role="progressbar" aria-valuenow="{pct:.0f}" style="background: #8883; '
    'border-radius: 6px"><div style="width: {pct:.1f}%; height: 12px; border-radius: 6px; background: {colour}"></div>'
    "</div><div>{said}</div>{reason}</div>"
)


def bar(status: JobStatus) -> str:
    """A bar, what is being done, and the reason if the job failed."""
    event = Event(stage=status.stage, pct=status.pct, job_id=status.job_id, details=status.details)
    parts = (status.state,) if status.ended else (stage(event), detail(event))
    return BAR.format(
        state=status.state,
        pct=status.pct,
        colour=COLOURS.get(status.state, RUNNING),
        said=escape(" · ".join(part for part in (f"{status.pct:.0f} %", *parts) if part)),
        reason=reason(status),
    )


def reason(status: JobStatus) -> str:
    """Why there is no video, or what is to be said about it."""
    made = status.result
    if made and made.error:
        return notice(made.error.code, made.error.message)
    return "".join(f"<p>{escape(warning)}</p>" for warning in made.warnings) if made else ""


def notice(code: str, message: str) -> str:
    """An error, for eyes and for screen readers."""
    return f'<p role="alert"><b>{code}</b> {escape(message)}</p>'


def line(status: JobStatus, prompt: str, *, chosen: bool) -> dict[str, Any]:
    """A job in a list; its line is HTML."""
    at = f"{status.state} {status.pct:.0f} %" if status.state == "running" else status.state
    return {
        "id": status.job_id,
        "line": escape(f"{prompt} · {at} · {status.job_id}"),
        "chosen": chosen,
    }
