"""Commands about submitted jobs."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import click

from farm.cli.exit_codes import FAILED
from farm.cli.options import json_option, output_option
from farm.cli.render import (
    echo,
    echo_json,
    exit_unless_successful,
    follow_to_end,
    print_error,
    print_line,
    print_status,
    print_warnings,
)
from farm.client import Farm, Job
from farm.errors import FarmError, InvalidInput
from farm.job import JobStatus, State, WebhookStatus

POLL_INTERVAL_S = 0.5
"""Pause between two checks for a playlist."""


@click.command()
@click.argument("job_id")
@json_option("print the whole status as JSON")
def status(job_id: str, as_json: bool) -> None:
    """Show the state of a job, and of its webhook call.

    Example: farm status ID --json
    """
    job = Farm().job(job_id)
    current = job.status()
    webhook = job.webhook()
    if as_json:
        fields = current.model_dump(mode="json")
        fields["webhook"] = webhook.model_dump() if webhook else None
        echo_json(json.dumps(fields, indent=2, ensure_ascii=False))
        return
    print_status(current)
    print_warnings(current.warnings)
    if webhook:
        echo(_webhook_line(webhook))


@click.command()
@click.argument("job_id")
@click.option("--play", is_flag=True, help="first print the URL of the growing video's playlist")
@json_option("print the events as JSON Lines, without a progress bar")
def watch(job_id: str, play: bool, as_json: bool) -> None:
    """Show a job's progress until it ends.

    Example: farm watch ID --play
    """
    job = Farm().job(job_id)
    if play:
        _print_playlist(job, as_json)
    if not as_json:
        follow_to_end(job, None, as_json)
        return
    for event in job.events():
        echo_json(event.model_dump_json())
    exit_unless_successful(job.status())


@click.command()
@click.argument("job_id")
@output_option("write the video to this file")
@json_option("print the whole result as JSON")
def result(job_id: str, output: Path | None, as_json: bool) -> None:
    """Print the URL of a job's video, or save it to a file.

    Example: farm result ID -o talking.mp4
    """
    job = Farm().job(job_id)
    current = job.status()
    if not current.ended:
        raise InvalidInput(
            f"job_id: got {job_id!r}; it has not ended, "
            f"it is at {current.stage} ({current.pct:.0f} %)"
        )
    try:
        ended = job.result()
    except FarmError as error:
        print_error(error)
        # The job failed, not this command: 1 even for an error that is 2 or 3 elsewhere.
        raise SystemExit(FAILED) from error
    if output:
        job.save(output)
    if as_json:
        echo_json(ended.model_dump_json(indent=2))
        return
    if output:
        click.echo(output)
    elif ended.video:
        echo(ended.video.url)
    print_warnings(ended.warnings, err=True)


@click.command()
@click.argument("job_ids", metavar="JOB_ID...", nargs=-1, required=True)
@json_option("print one line of JSON per job")
def cancel(job_ids: tuple[str, ...], as_json: bool) -> None:
    """Cancel jobs.

    A running chunk stops after its current denoise step.

    Example: farm cancel ID, or all: farm cancel $(farm jobs --state running --json | jq -r .job_id)
    """
    farm = Farm()
    for job_id, cancelled in farm.cancel(job_ids, by="farm cancel").items():
        state = farm.job(job_id).status().state
        if as_json:
            click.echo(json.dumps({"job_id": job_id, "cancelled": cancelled, "state": state}))
            continue
        line = state if cancelled else f"it had already ended: {state}"
        if len(job_ids) > 1:
            line = f"{job_id}  {line}"
        print_line(line, state)


@click.command()
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1), help="most jobs to list"
)
@click.option("--state", type=click.Choice(get_args(State)), help="only jobs in this state")
@click.option(
    "--since", type=click.DateTime(), help="only jobs submitted at this time (UTC) or later"
)
@click.option("--caller", help="only jobs of this caller")
@json_option("print one line of JSON per job")
def jobs(
    limit: int, state: State | None, since: datetime | None, caller: str | None, as_json: bool
) -> None:
    """List the newest jobs, of all callers; those of an endpoint if they were submitted from here.

    Columns are the id, the time of submission (UTC), the caller, the state, the progress, and the
    stage or the error.

    Example: farm jobs --state error --since 2026-11-22
    """
    begin = since.replace(tzinfo=UTC) if since else 0
    for each in Farm().jobs(limit, state=state, since=begin, caller=caller):
        if as_json:
            echo_json(each.model_dump_json())
        else:
            print_line(_job_line(each), each.state)


def _job_line(status: JobStatus) -> str:
    submitted = status.created
    error = status.result.error if status.result else None
    reason = error.code if error else status.stage
    columns = [
        status.job_id,
        f"{submitted:%Y-%m-%d %H:%M:%S}",
        f"{status.caller:12}",
        f"{status.state:9}",
        f"{status.pct:5.1f} %",
        reason,
    ]
    return "  ".join(columns)


def _webhook_line(webhook: WebhookStatus) -> str:
    line = f"webhook: {webhook.state}, attempts: {webhook.attempts}"
    return f"{line}, {webhook.reason}" if webhook.reason else line


def _print_playlist(job: Job, as_json: bool) -> None:
    """Prints the URL of a job's playlist as soon as it exists; nothing if the job ends first."""
    url = job.playlist()
    while url is None and not job.status().ended:
        time.sleep(POLL_INTERVAL_S)
        url = job.playlist()
    if url:
        echo(json.dumps({"playlist": url}) if as_json else url)
