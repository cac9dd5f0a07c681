"""The command that shows logs."""

from __future__ import annotations

import os
import time
from contextlib import suppress

import click

from farm.cli.options import json_option
from farm.cli.render import echo, echo_json
from farm.errors import InvalidInput
from farm.settings import Settings

FOLLOW_INTERVAL_S = 0.5


@click.command()
@click.argument("job_id", required=False, default="")
@click.option("--follow", "-f", is_flag=True, help="also show what is written from now on")
@click.option(
    *("--lines", "-n", "limit"),
    default=100,
    show_default=True,
    type=click.IntRange(1),
    help="most lines to begin with",
)
@json_option("print the lines as they are, JSON but for those of the broker")
def logs(job_id: str, follow: bool, limit: int, as_json: bool) -> None:
    """Show the logs of `farm up`, or only those of one job.

    They are in FARM_HOME. Columns are the time (UTC), the process, the job, the event and its
    details. Workers that were started one by one write to their standard error instead.

    Example: farm logs -f ID
    """
    from farm.local.log_files import LogFiles

    files = LogFiles(Settings.load(os.environ).folder)
    lines = files.read(job_id, limit)
    if not (lines or follow):
        whose = f" of job {job_id}" if job_id else ""
        raise InvalidInput(f"{files.folder}: it has no lines{whose}; allowed: where `farm up` ran")
    with suppress(KeyboardInterrupt):
        while True:
            for line in lines:
                echo_json(line.text) if as_json else echo(str(line))
            if not follow:
                return
            time.sleep(FOLLOW_INTERVAL_S)
            lines = files.read(job_id)
