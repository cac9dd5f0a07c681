"""Commands that look after a farm: what was lost, what is left over, what is broken."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict

import click

from farm.cli.exit_codes import FAILED
from farm.cli.options import json_option
from farm.cli.render import tell
from farm.client import Farm
from farm.settings import Settings


@click.command()
@json_option("print them as JSON Lines")
def recover(as_json: bool) -> None:
    """Enter jobs again that the broker has lost, and let them go on from their last finished chunk.

    Does nothing to jobs that the broker knows, so it may be run at any time and more than once.

    Example: farm recover
    """
    outcomes: Counter[str] = Counter()
    for each in Farm().recover():
        outcomes[each.outcome] += 1
        if as_json:
            click.echo(
                json.dumps(
                    {
                        field: getattr(each, field)
                        for field in ("job_id", "outcome", "reason", "kept")
                    }
                )
            )
        else:
            click.echo(f"{each.job_id}  {each.outcome:10}  {each.reason or ''}".rstrip())
    if not as_json:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        click.echo(f"jobs in the store: {counts or 'none'}")


@click.command()
@click.option("--dry-run", is_flag=True, help="only say what would be removed")
@json_option("print it as JSON Lines")
def gc(dry_run: bool, as_json: bool) -> None:
    """Remove what nobody needs any more, from the store, the broker and this machine's temporary folder.

    Attempts that were overtaken; of jobs that ended FARM_KEEP_INTERMEDIATES_S ago all but the video; jobs that ended
    FARM_KEEP_JOBS_S ago; folders of workers that died. Never what is current, and no job that the broker does not know.

    Example: farm gc --dry-run
    """
    objects = size = 0
    for each in Farm().gc(dry_run=dry_run):
        objects, size = objects + each.objects, size + each.bytes
        told = {field: getattr(each, field) for field in ("reason", "name", "objects", "bytes")}
        line = f"{each.reason:12}  {each.objects:5}  {each.bytes / 1e6:10.3f} MB  {each.name}"
        click.echo(json.dumps(told) if as_json else line)
    if not as_json:
        click.echo(
            f"{'would remove' if dry_run else 'removed':12}  {objects:5}  {size / 1e6:10.3f} MB"
        )


@click.command()
@json_option("print them as JSON Lines")
def doctor(as_json: bool) -> None:
    """Look at all that a farm needs from here: broker, clock, store, workers, weights, GPU, ffmpeg, disk.

    Says what to do about each. Exit status 1 if something is broken.

    Example: farm doctor
    """
    from farm.monitoring.doctor import run_checks

    states = set()
    for each in run_checks(Settings.load(os.environ)):
        states.add(each.status)
        line = f"{each.status:6}  {each.check:8}  {each.message}" + (
            f"\n{'':18}-> {each.remedy}" if each.remedy else ""
        )
        if as_json:
            click.echo(json.dumps(asdict(each)))
        else:
            tell(line, each.status)
    if "broken" in states:
        raise SystemExit(FAILED)
