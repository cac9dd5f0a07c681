"""Progress in a terminal or a notebook: one live bar, or a line for each event where there is neither."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from farm.client import Job
from farm.job import Event, JobStatus


def follow(job: Job, console: Console | None = None) -> JobStatus:
    """Shows a job until it ends, and returns where it then stands. A notebook needs ipywidgets for its bar."""
    console = console or Console()
    if console.is_terminal or console.is_jupyter:
        _draw(job, console)
    else:
        for event in job.events():
            console.out(
                f"{event.pct:5.1f} %  {event.stage:24} {detail(event)}".rstrip(), highlight=False
            )
    return job.status()


def stage(event: Event) -> str:
    """What is being done, in words; which chunk it is done to, `detail` tells."""
    return event.stage.split("_")[2] if "chunk" in event.details else event.stage.replace("_", " ")


def detail(event: Event) -> str:
    """The chunk and the step, counted from 1 as people do, and the time that is left."""
    told = event.details
    parts = []
    if "chunk" in told:
        parts.append(f"chunk {told['chunk'] + 1} of {told['chunks']}")
    if "step" in told:
        parts.append(f"step {told['step']} of {told['steps']}")
    if "eta_s" in told:
        parts.append(f"{told['eta_s']:.0f} s left")
    return ", ".join(parts)


def _draw(job: Job, console: Console) -> None:
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("queued", total=100, detail="")
        for event in job.events():
            progress.update(
                bar, description=f"{stage(event):20}", completed=event.pct, detail=detail(event)
            )
        progress.refresh()  # In a notebook nobody else draws the last event.


@contextmanager
def metered(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A `report(what, done, total)` in bytes that draws itself; without a terminal, a line when `what` changes."""
    columns = [
        TextColumn("{task.description:16}"),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=None)
        said = ""

        def report(what: str, done: int, total: int) -> None:
            nonlocal said
            if what != said and not console.is_terminal:
                console.out(f"{what} (of {total / 1e9:.1f} GB in all)", highlight=False)
            said = what
            progress.update(bar, description=what, completed=done, total=total)

        yield report


@contextmanager
def counted(
    console: Console, total: int, *, done: int
) -> Iterator[Callable[[str, str, str, str], None]]:
    """A `report(name, status, why, so_far)` of each thing of many as it ends.

    Without a terminal it is a line for each, with one a line for each that has a `why`.
    """
    columns = [
        MofNCompleteColumn(),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.description}"),
    ]
    times = [TimeElapsedColumn(), TimeRemainingColumn(elapsed_when_finished=True)]
    with Progress(*columns, *times, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=total, completed=done)

        def report(name: str, status: str, why: str, so_far: str) -> None:
            if why or not console.is_terminal:
                console.out(f"{status:9}  {name}  {why}".rstrip(), highlight=False)
            progress.update(bar, description=so_far, advance=1)

        yield report
