"""The command that lists jobs, and how a job is told in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import get_args
from urllib.parse import unquote, urlsplit

import click
from rich.console import Console, Group
from rich.live import Live

from farm.cli.options import json_option
from farm.cli.render import echo_json, line_text, print_line
from farm.cli.words import age_s, queue_words
from farm.client import Farm
from farm.client.progress import detail, stage
from farm.errors import one_line
from farm.estimate import in_words
from farm.job import JobRequest, JobStatus, State
from farm.job.request import DEFAULT_PROMPT
from farm.store.keys import SCHEME, UPLOAD

WATCH_INTERVAL_S = 2.0
MAX_TITLE = 30
"""Characters that the list shows of a title."""

SHORT_DIGEST = 8
"""Characters that are shown of an upload's name, which is its SHA-256."""

HEADER = "ID", "SUBMITTED (UTC)", "CALLER", "STATE", "DONE", "TIME", "TITLE", "NOW"
WIDTHS = "32", "19", "12", "9", ">7", ">7", str(MAX_TITLE), ""


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
    """List the newest jobs.

    Of a farm they are those of all callers, of an endpoint those that were submitted from here.

    TIME is that since the submission, or until the end; NOW the stage, the place in the queue or
    the error. TITLE is the text that is spoken, else a prompt of its own, else the face and the
    voices: URLs by the names of their files, uploads by the beginning of their SHA-256.

    Example: farm jobs --state error --since 2026-11-22
    """
    farm = Farm()
    begin = since.replace(tzinfo=UTC) if since else 0

    def listed() -> list[JobStatus]:
        return farm.jobs(limit, state=state, since=begin, caller=caller)

    if is_watched:
        _watch(farm, listed)
        return
    if as_json:
        for each in listed():
            echo_json(each.model_dump_json())
        return
    for line, highlight in _table(farm, listed()):
        print_line(line, highlight)


def _watch(farm: Farm, listed: Callable[[], Sequence[JobStatus]]) -> None:
    """Draws the list again and again, until Ctrl-C."""
    with suppress(KeyboardInterrupt), Live(console=Console(), auto_refresh=False) as live:
        while True:
            lines = [line_text(line, highlight) for line, highlight in _table(farm, listed())]
            live.update(Group(*lines), refresh=True)
            time.sleep(WATCH_INTERVAL_S)


def _table(farm: Farm, statuses: Sequence[JobStatus]) -> Iterator[tuple[str, str]]:
    """The header and a line for each job, each with the word that is coloured.

    What it asks of the farm it asks for all jobs at once.
    """
    now = farm.now()
    requests = farm.requests([status.job_id for status in statuses])
    positions = farm.queue_positions()
    yield _line(HEADER), ""
    for status in statuses:
        request = requests.get(status.job_id)
        columns = (
            status.job_id,
            f"{status.created:%Y-%m-%d %H:%M:%S}",
            status.caller,
            status.state,
            f"{status.pct:.1f} %",
            in_words(age_s(status, now)),
            _first_words(_title(request)) if request else "",
            ", ".join(_reason(status, positions.get(status.job_id))),
        )
        yield _line(columns), status.state


def _line(columns: Sequence[str]) -> str:
    cells = (f"{text:{width}}" for text, width in zip(columns, WIDTHS, strict=True))
    return "  ".join(cells).rstrip()


def _title(request: JobRequest) -> str:
    """What tells a job from others: its text, a prompt of its own, or the names of its files."""
    if request.tts_audio:
        return request.tts_audio.text
    if request.prompt != DEFAULT_PROMPT:
        return request.prompt
    voices = request.cond_audio
    sources = (request.cond_video, *((voices.person1, voices.person2) if voices else ()))
    return " + ".join(_file_name(source) for source in sources if source)


def _file_name(source: str) -> str:
    """The name of a file in a URL, of an upload its short digest."""
    name = unquote(PurePosixPath(urlsplit(source).path).name)
    return name[:SHORT_DIGEST] if UPLOAD.fullmatch(source.removeprefix(SCHEME)) else name


def _first_words(title: str) -> str:
    """The beginning of a title."""
    words = " ".join(title.split())
    return words if len(words) <= MAX_TITLE else f"{words[: MAX_TITLE - 3]}..."


def _reason(status: JobStatus, position: int | None) -> Iterator[str]:
    """Why a job has no video yet, or never will."""
    error = status.result.error if status.result else None
    if error:
        yield f"{error.code}: {one_line(error.message)}"
    if status.ended:
        return
    event = status.event()
    yield from filter(None, (stage(event), detail(event), queue_words(position)))
