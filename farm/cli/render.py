"""What is shown of a job, and how lines get their colours."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from farm.cli.exit_codes import FAILED
from farm.client import Job
from farm.client.progress import follow
from farm.errors import FarmError
from farm.job import JobStatus

COLOURS = {
    **dict.fromkeys(("success", "fine"), "green"),
    **dict.fromkeys(("running", "queued"), "cyan"),
    **dict.fromkeys(("cancelled", "odd"), "yellow"),
    **dict.fromkeys(("error", "invalid", "broken"), "red"),
}
"""In which colour a state stands on a terminal."""


def see_through(job: Job, output: Path | None, as_json: bool) -> None:
    """Follows a job to its end, then says where the video is, or why there is none."""
    try:
        ended = follow(job, Console(stderr=True, quiet=as_json))
    except KeyboardInterrupt:
        click.echo(
            f"job {job.id} goes on; `farm watch {job.id}` follows it, `farm cancel {job.id}` ends it",
            err=True,
        )
        raise
    saved = job.save(output) if output and ended.state == "success" else None
    if saved and not as_json:
        click.echo(saved)
    else:
        show(ended, as_json)
    end_as(ended)


def end_as(ended: JobStatus) -> None:
    """Ends the command as the job ended."""
    if ended.state != "success":
        raise SystemExit(FAILED)


def show(status: JobStatus, as_json: bool = False) -> None:
    """Prints where a job stands, and what came of it."""
    if as_json:
        click.echo(status.model_dump_json(indent=2))
        return
    made = status.result
    stage = made.error.at_stage if made and made.error else status.stage
    tell(f"{status.state} at {stage} ({status.pct:.0f} %)", status.state)
    if made and made.error:
        tell(f"{made.error.code}: {made.error.message}", made.error.code, "red")
    if made and made.video:
        click.echo(made.video.url)
        for warning in made.warnings:
            click.echo(f"note: {warning}")


def complain(error: FarmError) -> None:
    """Prints an error's line to standard error."""
    tell(f"{error.code}: {error.message}", error.code, "red", Console(stderr=True))


def tell(line: str, word: str, colour: str | None = None, console: Console | None = None) -> None:
    """Prints a line; on a terminal that knows colours with a word of it in its colour."""
    text, begin = Text(line), line.find(word)
    text.stylize(colour or COLOURS.get(word, ""), begin, begin + len(word))
    (console or Console()).print(text, soft_wrap=True)
