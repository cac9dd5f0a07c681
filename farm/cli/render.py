"""How jobs and errors are printed, and which words are coloured."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from farm.cli.exit_codes import FAILED
from farm.client import Job
from farm.client.progress import follow
from farm.errors import FarmError, printable
from farm.job import JobStatus

COLOURS = {
    **dict.fromkeys(("success", "ok"), "green"),
    **dict.fromkeys(("running", "queued"), "cyan"),
    **dict.fromkeys(("cancelled", "warning"), "yellow"),
    **dict.fromkeys(("error", "invalid"), "red"),
}
"""The colour of a state on a terminal."""


def follow_to_end(job: Job, output: str | Path | None, as_json: bool) -> None:
    """Shows a job until it ends, then prints where its video is, or why it has none."""
    try:
        ended = follow(job, Console(stderr=True, quiet=as_json))
    except KeyboardInterrupt:
        click.echo(
            f"job {job.id} continues; `farm watch {job.id}` follows it, "
            f"`farm cancel {job.id}` ends it",
            err=True,
        )
        raise
    saved = None
    if output and ended.state == "success":
        try:
            saved = job.save(output)
        except FarmError:
            click.echo(f"the video is made; `farm result {job.id} -o FILE` saves it", err=True)
            raise
    if saved and not as_json:
        click.echo(saved)
    else:
        print_status(ended, as_json)
    exit_unless_successful(ended)


def exit_unless_successful(ended: JobStatus) -> None:
    """Exits with status 1 if a job ended without a video."""
    if ended.state != "success":
        raise SystemExit(FAILED)


def print_status(status: JobStatus, as_json: bool = False) -> None:
    """Prints the state of a job, and its video or error once it has ended."""
    if as_json:
        echo_json(status.model_dump_json(indent=2))
        return
    result = status.result
    error = result.error if result else None
    print_line(status.summary, status.state)
    if error:
        print_line(f"{error.code}: {error.message}", error.code, "red")
    if result and result.video:
        echo(result.video.url)


def print_warnings(warnings: Iterable[str], *, err: bool = False) -> None:
    """Prints the warnings of a job; to standard error if standard output is for programs."""
    for warning in warnings:
        echo(f"note: {warning}", err=err)


def print_error(error: FarmError) -> None:
    """Prints an error to standard error, with a line for each mistake."""
    console = Console(stderr=True)
    for line in error.message.splitlines() or [""]:
        print_line(f"{error.code}: {line}", error.code, "red", console)


def echo(text: str, *, err: bool = False) -> None:
    """Prints a line that may quote a caller."""
    click.echo(printable(text), err=err)


def hint(text: str) -> None:
    """Prints what to do next, for people only."""
    if sys.stderr.isatty():
        echo(f"next: {text}", err=True)


def echo_json(text: str) -> None:
    """Prints JSON, in which control characters from 0x7f on may stand as they are, with none."""
    printed = (c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    click.echo("".join(printed))


def print_line(
    line: str, highlight: str, colour: str | None = None, console: Console | None = None
) -> None:
    """Prints a line, unwrapped; on a colour terminal one word of it in `colour`, or in its own."""
    (console or Console()).print(line_text(line, highlight, colour), soft_wrap=True)


def line_text(line: str, highlight: str, colour: str | None = None) -> Text:
    """A line for a terminal, one word of it in `colour`, or in its own."""
    text = Text(printable(line))
    start = line.find(highlight)
    style = colour or COLOURS.get(highlight, "")
    text.stylize(style, start, start + len(highlight))
    return text
