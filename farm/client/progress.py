"""Progress in a terminal or a notebook as a live bar; elsewhere as one line per event."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from farm.client import Job
from farm.errors import printable
from farm.estimate import in_words
from farm.job import Event, JobStatus


def follow(job: Job, console: Console | None = None) -> JobStatus:
    """Shows a job until it ends, and returns its last status. Notebooks need ipywidgets."""
    console = console or Console()
    if console.is_terminal or console.is_jupyter:
        _draw(job, console)
    else:
        for event in _with_notes(job, console):
            line = f"{event.pct:5.1f} %  {event.stage:24} {detail(event)}"
            console.out(line.rstrip(), highlight=False)
    return job.status()


def print_note(console: Console, name: str, text: str) -> None:
    """Prints a line about a job that goes on, above the bar if there is one."""
    console.out(printable(f"note       {name}  {text}"), highlight=False)


def _with_notes(job: Job, console: Console) -> Iterator[Event]:
    """The events of a job; each warning is printed once, as soon as it is known."""
    said: set[str] = set()

    def say(warnings: Iterable[str]) -> None:
        for warning in warnings:
            if warning not in said:
                said.add(warning)
                console.out(printable(f"note: {warning}"), highlight=False)

    for event in job.events():
        yield event
        say(event.warnings)
    say(job.status().warnings)


def stage(event: Event) -> str:
    """The stage in words, without the chunk, which is part of `detail`."""
    if "chunk" in event.details:
        # chunk_{number}_{name}, while sampling with _{percent} behind it
        return event.stage.split("_")[2]
    return event.stage.replace("_", " ")


def detail(event: Event, *, since_s: float = 0) -> str:
    """The chunk and the denoise step, counted from 1, and the time that is left since then."""
    details = event.details
    parts = []
    if "chunk" in details:
        parts.append(f"chunk {details['chunk'] + 1} of {details['chunks']}")
    if "step" in details:
        parts.append(f"step {details['step']} of {details['steps']}")
    if "eta_s" in details:
        parts.append(f"{in_words(max(0, details['eta_s'] - since_s))} left")
    return ", ".join(parts)


BAR_WIDTH = 10
"""So that a line with hundreds of chunks has room in 80 columns."""


class _DetailColumn(ProgressColumn):
    """The detail of the last event, shortened to fit into one line; what is left of its time runs
    down until the next one.
    """

    def get_table_column(self) -> Column:
        return Column(no_wrap=True)

    def render(self, task: Task) -> Text:
        event: Event | None = task.fields["event"]
        if event is None:
            return Text()
        text = detail(event, since_s=time.monotonic() - task.fields["seen_at"])
        return Text(text.replace(" of ", "/"))


def _draw(job: Job, console: Console) -> None:
    columns = [
        TextColumn("{task.description}"),
        BarColumn(BAR_WIDTH),
        TaskProgressColumn(),
        _DetailColumn(),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("queued", total=100, event=None, seen_at=0.0)
        for event in _with_notes(job, console):
            progress.update(
                bar,
                description=f"{stage(event):17}",
                completed=event.pct,
                event=event,
                seen_at=time.monotonic(),
            )
        progress.refresh()  # In a notebook no thread draws the last event.


@contextmanager
def byte_progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Yields `report(name, done, total)`, in bytes, which draws a bar.

    Without a terminal it prints one line each time the name changes.
    """
    columns = [
        TextColumn("{task.description:16}"),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=None)
        last_name = ""

        def report(name: str, done: int, total: int) -> None:
            nonlocal last_name
            if name != last_name and not console.is_terminal:
                console.out(f"{name} (of {total / 1e9:.1f} GB in all)", highlight=False)
            last_name = name
            progress.update(bar, description=name, completed=done, total=total)

        yield report


@contextmanager
def batch_progress(
    console: Console, total: int, *, done: int
) -> Iterator[Callable[[str, str, str, str], None]]:
    """Yields `report(name, status, reason, summary)`, to be called for each row that ends.

    A terminal shows a bar with the summary, and a line for each row that has a reason; everything
    else gets a line for each row.
    """
    columns = [
        MofNCompleteColumn(),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    ]
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=total, completed=done)

        def report(name: str, status: str, reason: str, summary: str) -> None:
            if reason or not console.is_terminal:
                line = f"{status:9}  {name}  {reason}".rstrip()
                console.out(printable(line), highlight=False)
            progress.update(bar, description=summary, advance=1)

        yield report
