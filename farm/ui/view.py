"""How the page shows a job, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from farm.client.progress import detail, stage
from farm.errors import FarmError
from farm.estimate import Estimate, in_words
from farm.job import Event, JobStatus
from farm.presets import preset
from farm.ui.problems import is_of_the_farm, told
from farm.ui.words import STATES

COLOURS = {"success": "#1f845a", "error": "#c9372c", "cancelled": "#758195"}
RUNNING = "#1d7afc"
BAR = (
    '<div class="job" data-state="{state}">'
    '<div role="progressbar" aria-label="Progress of the video" aria-valuenow="{pct:.0f}" '
    'aria-valuemin="0" aria-valuemax="100" style="background: #8883; border-radius: 6px">'
    '<div style="width: {pct:.1f}%; height: 12px; border-radius: 6px; background: {colour}"></div>'
    '</div><div style="margin-top: 6px">{text}</div>{remarks}</div>'
)
NO_JOB = '<p class="empty">Your video grows here, from its first second.</p>'


def bar(status: JobStatus, waiting: str = "") -> str:
    """A progress bar with what is done or waited for, the warnings, and the error of a job."""
    return BAR.format(
        state=status.state,
        pct=status.pct,
        colour=COLOURS.get(status.state, RUNNING),
        text=escape(" · ".join(part for part in _parts(status, waiting) if part)),
        remarks=_remarks(status),
    )


def spoken(status: JobStatus, waiting: str = "") -> str:
    """The same for screen readers, which read it whenever it changes: so without each step."""
    now = waiting or (STATES[status.state] if status.ended else stage(_event(status)))
    chunk = status.details.get("chunk")
    of_chunks = "" if chunk is None else f", chunk {chunk + 1} of {status.details['chunks']}"
    return escape(f"The video is {now}" if status.ended else f"{now}{of_chunks}")


def waiting(worker: str, position: int, wait_s: float | None = None) -> str:
    """For what a job waits, whose message is at that position from 1."""
    before = "you are next" if position == 1 else f"{position - 1} before you"
    about = "" if wait_s is None else f", about {in_words(wait_s)}"
    return f"waiting for {worker}: {before}{about}"


def alert(error: FarmError) -> str:
    """An error, which screen readers announce; its code is shown to a pointer only."""
    return problem(told(error.code, error.message), error.code)


def problem(text: str, code: str) -> str:
    """What is wrong, with a line for each mistake."""
    return f'<p role="alert" class="problem" tabindex="-1" title="{code}">{escape(text)}</p>'


def estimate(found: Estimate) -> str:
    """What a job would take."""
    return f"<p>{escape(str(found))}</p>"


def models(names: Sequence[str]) -> str:
    """The models of the farm, and what they are good for."""
    return "<br>".join(f"<b>{escape(name)}</b>: {preset(name).good_for}" for name in names)


def _parts(status: JobStatus, waiting: str) -> list[str]:
    parts = [f"{status.pct:.0f} %"]
    if status.ended:
        took_s = status.updated_at - status.created_at
        return [*parts, STATES[status.state], f"took {in_words(took_s)}"]
    return [*parts, waiting] if waiting else [*parts, stage(_event(status)), detail(_event(status))]


def _event(status: JobStatus) -> Event:
    return Event(stage=status.stage, pct=status.pct, job_id=status.job_id, details=status.details)


def _remarks(status: JobStatus) -> str:
    """The warnings of a job, and its error."""
    remarks = [f"<p>{escape(warning)}</p>" for warning in status.warnings]
    error = status.result.error if status.result else None
    if error is None:
        return "".join(remarks)
    text = told(error.code, error.message)
    if status.state == "cancelled":
        return "".join([*remarks, f'<p title="{error.code}">{escape(text)}</p>'])
    if is_of_the_farm(error.code):
        text += f"\n{error.code}, job {status.job_id}"
    return "".join([*remarks, problem(text, error.code)])
