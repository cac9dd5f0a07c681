"""Commands about submitted jobs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import islice
from urllib.parse import urlsplit

import click

from farm.cli.exit_codes import FAILED
from farm.cli.options import json_option, video_option, yes_option
from farm.cli.render import (
    echo,
    echo_json,
    exit_unless_successful,
    follow_to_end,
    hint,
    print_error,
    print_line,
    print_status,
    print_warnings,
)
from farm.cli.viewer import show
from farm.cli.words import queue_words, time_words
from farm.client import Farm, Job
from farm.errors import FarmError, InvalidInput
from farm.job import Result, WebhookStatus

POLL_INTERVAL_S = 0.5
"""Pause between two checks for a playlist."""
MAX_ALIKE = 3
"""Ids that an error names when a shortened one is several jobs'."""


@click.command()
@click.argument("job_id")
@json_option("print the whole status as JSON")
def status(job_id: str, as_json: bool) -> None:
    """Show the state of a job, and of its webhook call.

    Example: farm status ID --json
    """
    farm = Farm()
    job = find_job(farm, job_id)
    current = job.status()
    webhook = job.webhook()
    if as_json:
        fields = current.model_dump(mode="json")
        fields["webhook"] = webhook.model_dump() if webhook else None
        echo_json(json.dumps(fields, indent=2, ensure_ascii=False))
        return
    print_status(current)
    waits = queue_words(job.queue_position())
    echo(", ".join(filter(None, (*time_words(current, farm.now()), waits))))
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
    job = find_job(Farm(), job_id)
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
@video_option("write the video to this file, or into this folder")
@json_option("print the whole result as JSON")
def result(job_id: str, output: str | None, as_json: bool) -> None:
    """Print the URL of a job's video, or save it to a file.

    Example: farm result ID -o talking.mp4
    """
    job = find_job(Farm(), job_id)
    ended = _ended(job)
    saved = job.save(output) if output else None
    if as_json:
        echo_json(ended.model_dump_json(indent=2))
        return
    if saved:
        click.echo(saved)
    elif ended.video:
        echo(ended.video.url)
    print_warnings(ended.warnings, err=True)


@click.command()
@click.argument("job_ids", metavar="JOB_ID...", nargs=-1, required=True)
@json_option("print one line of JSON per job")
def cancel(job_ids: tuple[str, ...], as_json: bool) -> None:
    """Cancel jobs.

    A running chunk stops after its current denoise step.

    Example: farm cancel ID

    All running: farm cancel $(farm jobs --state running --json|jq -r .job_id)
    """
    farm = Farm()
    found = [find_job(farm, job_id).id for job_id in job_ids]
    for job_id, cancelled in farm.cancel(found, by="farm cancel").items():
        state = farm.job(job_id).status().state
        if as_json:
            click.echo(json.dumps({"job_id": job_id, "cancelled": cancelled, "state": state}))
            continue
        line = state if cancelled else f"it had already ended: {state}"
        if len(job_ids) > 1:
            line = f"{job_id}  {line}"
        print_line(line, state)


@click.command()
@click.argument("job_ids", metavar="JOB_ID...", nargs=-1, required=True)
@yes_option
@json_option("print one line of JSON per job")
def delete(job_ids: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Delete jobs for good, with their videos and uploads.

    Jobs that go on are cancelled first. An upload that another job has stays, and what is shared by
    jobs, such as the embeddings of a voice, stays for FARM_KEEP_SHARED_S.

    Example: farm delete ID
    """
    farm = Farm()
    found = list(dict.fromkeys(find_job(farm, job_id).id for job_id in job_ids))
    if not yes:
        what = f"job {found[0]}" if len(found) == 1 else f"{len(found)} jobs"
        click.confirm(f"delete {what}, videos and uploads for good?", abort=True, err=True)
    farm.delete(found, by="farm delete")
    for job_id in found:
        click.echo(json.dumps({"job_id": job_id, "deleted": True}) if as_json else job_id)


@click.command()
@click.argument("job_id")
@json_option("print the new job's status as JSON")
def retry(job_id: str, as_json: bool) -> None:
    """Submit a job again that ended without a video.

    It prints the new id; repeated, it prints the same id, unless that job has no video either.

    Example: farm retry ID
    """
    farm = Farm()
    again = farm.retry(find_job(farm, job_id).id)
    if as_json:
        print_status(again.status(), as_json)
        return
    click.echo(again.id)
    print_warnings(again.status().warnings, err=True)
    hint(f"farm watch {again.id}")


@click.command("open")
@click.argument("job_id")
def open_video(job_id: str) -> None:
    """Show a job's video in this machine's player or browser.

    Example: farm open ID
    """
    job = find_job(Farm(), job_id)
    ended = _ended(job)
    print_warnings(ended.warnings, err=True)
    url = ended.video.url if ended.video else ""
    if not urlsplit(url).path.endswith(".mp4"):  # what an endpoint names is launched by its kind
        raise InvalidInput(f"job_id: got {job.id!r}, which has no video; allowed: one that has")
    echo(url)
    if not show(url):
        echo(f"note: nothing here shows it; farm result {job.id} -o FILE saves it", err=True)
        raise SystemExit(FAILED)


def _ended(job: Job) -> Result:
    """The result of a job, which has to have ended; exits with status 1 if it failed."""
    current = job.status()
    if not current.ended:
        raise InvalidInput(
            f"job_id: got {job.id!r}; it has not ended, "
            f"it is at {current.stage} ({current.pct:.0f} %)"
        )
    try:
        return job.result()
    except FarmError as error:
        print_error(error)
        # The job failed, not this command: 1 even for an error that is 2 or 3 elsewhere.
        raise SystemExit(FAILED) from error


def find_job(farm: Farm, text: str) -> Job:
    """The job with an id, or the only one whose id begins like that."""
    try:
        return farm.job(text)
    except InvalidInput:
        alike = list(islice(_ids_like(farm, text), MAX_ALIKE + 1))
        if not alike:
            raise
    if len(alike) == 1:
        return farm.job(alike[0])
    shown = ", ".join(alike[:MAX_ALIKE])
    raise InvalidInput(
        f"job_id: got {text!r}; several ids begin with it: {shown}; allowed: more of its characters"
    )


def _ids_like(farm: Farm, text: str) -> Iterator[str]:
    return (job_id for job_id in farm.job_ids() if job_id.startswith(text))


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
