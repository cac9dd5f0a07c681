"""The command that lists jobs, and how a job is told in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import get_args

import click
from rich.console import Console, Group
from rich.live import Live

from farm.cli.options import json_option
from farm.cli.render import echo_json, line_text, print_line
from farm.cli.words import age_s, queue_words
from farm.client import Farm, Job
from farm.client.progress import detail, stage
from farm.errors import FarmError, one_line
from farm.estimate import in_words
from farm.job import Event, JobStatus, State

WATCH_INTERVAL_S = 2.0
MAX_PROMPT = 30
"""Characters that the list shows of a prompt."""


@click.command()
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1), help="most jobs to list"
)
@click.option("--state", type=click.Choice(get_args(State)), help="only jobs in this state")
@click.option(
    "--since", type=click.DateTime(), help="only jobs submitted at this time (UTC) or later"
)
@click.option("--caller", help="only jobs of this caller")
@click.option("--watch", "is_watched", is_flag=True, help="show the list until Ctrl-C")
@json_option("print one line of JSON per job")
def jobs(
    limit: int,
    state: State | None,
    since: datetime | None,
    caller: str | None,
    is_watched: bool,
    as_json: bool,
) -> None:
    """List the newest jobs, of all callers; those of an endpoint if they were submitted from here.

    Columns are the id, the time of submission (UTC), the caller, the state, the progress, the time
    since the submission or until the end, the first words of the prompt, and the stage, the place
    in the queue or the error.

    Example: farm jobs --state error --since 2026-11-22
    """
    farm = Farm()
    begin = since.replace(tzinfo=UTC) if since else 0

    def listed() -> list[JobStatus]:
        return farm.jobs(limit, state=state, since=begin, caller=caller)

    if is_watched:
        _watch(farm, listed)
        return
    now = farm.now()
    for each in listed():
        if as_json:
            echo_json(each.model_dump_json())
        else:
            print_line(_line(farm, each, now), each.state)


def _watch(farm: Farm, listed: Callable[[], Iterable[JobStatus]]) -> None:
    """Draws the list again and again, until Ctrl-C."""
    with suppress(KeyboardInterrupt), Live(console=Console(), auto_refresh=False) as live:
        while True:
            now = farm.now()
            lines = [line_text(_line(farm, each, now), each.state) for each in listed()]
            live.update(Group(*lines), refresh=True)
            time.sleep(WATCH_INTERVAL_S)


def _line(farm: Farm, status: JobStatus, now: float) -> str:
    job = farm.job(status.job_id)
    columns = [
        status.job_id,
        f"{status.created:%Y-%m-%d %H:%M:%S}",
        f"{status.caller:12}",
        f"{status.state:9}",
        f"{status.pct:5.1f} %",
        f"{in_words(age_s(status, now)):>7}",
        f"{_first_words(job):{MAX_PROMPT}}",
        ", ".join(_reason(job, status)),
    ]
    return "  ".join(columns).rstrip()


def _first_words(job: Job) -> str:
    """The beginning of a job's prompt; nothing if that is not known any more."""
    try:
        prompt = " ".join(job.request().prompt.split())
    except FarmError:
        return ""
    return prompt if len(prompt) <= MAX_PROMPT else f"{prompt[: MAX_PROMPT - 3]}..."


def _reason(job: Job, status: JobStatus) -> Iterator[str]:
    """Why a job has no video yet, or never will."""
    error = status.result.error if status.result else None
    if error:
        yield f"{error.code}: {one_line(error.message)}"
    if status.ended:
        return
    event = Event(stage=status.stage, pct=status.pct, job_id=status.job_id, details=status.details)
    yield from filter(None, (stage(event), detail(event), queue_words(job)))
