"""Commands about jobs that were handed in."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import click

from farm.cli.exit_codes import FAILED
from farm.cli.options import json_option, output_option
from farm.cli.render import complain, end_as, see_through, show, tell
from farm.client import Farm, Job
from farm.errors import FarmError, InvalidInput
from farm.job import State

LOOK_EVERY_S = 0.5
"""Pause between two looks whether a video has begun to grow."""


@click.command()
@click.argument("job_id")
@json_option("print the whole status as JSON")
def status(job_id: str, as_json: bool) -> None:
    """Say where a job stands, and what became of its webhook.

    Example: farm status ID --json
    """
    job = Farm().job(job_id)
    now, notice = job.status(), job.webhook()
    if as_json:
        told = {**now.model_dump(mode="json"), "webhook": notice and notice.model_dump()}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    show(now)
    if notice:
        click.echo(
            f"webhook: {notice.state}, tried {notice.tries} times{f', {notice.reason}' * bool(notice.reason)}"
        )


@click.command()
@click.argument("job_id")
@click.option("--play", is_flag=True, help="first print where a player finds what is made so far")
@json_option("print its events as JSON Lines, and no bar")
def watch(job_id: str, play: bool, as_json: bool) -> None:
    """Show a job's progress until it ends.

    Example: farm watch ID --play
    """
    job = Farm().job(job_id)
    if play:
        _tell_playlist(job, as_json)
    if as_json:
        for event in job.events():
            click.echo(event.model_dump_json())
        end_as(job.status())
    else:
        see_through(job, None, as_json)


@click.command()
@click.argument("job_id")
@output_option("write the video here")
@json_option("print the whole result as JSON")
def result(job_id: str, output: Path | None, as_json: bool) -> None:
    """Print where the video of a finished job lies, or write it to a file.

    Example: farm result ID -o talking.mp4
    """
    job = Farm().job(job_id)
    now = job.status()
    if not now.ended:
        raise InvalidInput(
            f"job_id: got {job_id!r}; it has not ended, it is at {now.stage} ({now.pct:.0f} %)"
        )
    try:
        made = job.result()
    except FarmError as error:
        complain(error)
        raise SystemExit(FAILED) from error  # as the job ended, whoever is to blame
    if output:
        job.save(output)
    if as_json:
        click.echo(made.model_dump_json(indent=2))
    else:
        click.echo(output or (made.video and made.video.url))


@click.command()
@click.argument("job_ids", metavar="JOB_ID...", nargs=-1, required=True)
@json_option("print them as JSON Lines")
def cancel(job_ids: tuple[str, ...], as_json: bool) -> None:
    """End jobs; a running step stops at its next denoise step.

    Example: farm cancel ID, or a whole batch: farm cancel $(cat ids)
    """
    farm = Farm()
    for job_id, cancelled in farm.cancel(job_ids, by="farm cancel").items():
        state = farm.job(job_id).status().state
        said = state if cancelled else f"it had ended already: {state}"
        if as_json:
            click.echo(json.dumps({"job_id": job_id, "cancelled": cancelled, "state": state}))
        else:
            tell(said if len(job_ids) == 1 else f"{job_id}  {said}", state)


@click.command()
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="how many")
@click.option("--state", type=click.Choice(get_args(State)), help="only those in this state")
@click.option(
    "--since", type=click.DateTime(), help="only those entered at this time (UTC) or later"
)
@json_option("print them as JSON Lines")
def jobs(limit: int, state: State | None, since: datetime | None, as_json: bool) -> None:
    """List the newest jobs: id, when it was entered (UTC), state, progress, and its stage or its error.

    Example: farm jobs --state error --since 2026-11-22
    """
    begin = since.replace(tzinfo=UTC) if since else 0
    for each in Farm().jobs(limit, state=state, since=begin):
        if as_json:
            click.echo(each.model_dump_json())
        else:
            entered = datetime.fromtimestamp(each.created_at, UTC)
            why = each.result.error.code if each.result and each.result.error else each.stage
            tell(
                f"{each.job_id}  {entered:%Y-%m-%d %H:%M:%S}  {each.state:9}  {each.pct:5.1f} %  {why}",
                each.state,
            )


def _tell_playlist(job: Job, as_json: bool) -> None:
    """Prints where a job's video grows, as soon as there is something to watch."""
    while (address := job.playlist()) is None and not job.status().ended:
        time.sleep(LOOK_EVERY_S)
    if address:
        click.echo(json.dumps({"playlist": address}) if as_json else address)
