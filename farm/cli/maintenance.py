"""Commands that keep a farm healthy: recovery, garbage collection, checks."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import asdict

import click

from farm.cli.exit_codes import FAILED
from farm.cli.options import json_option
from farm.cli.render import echo, print_error, print_line
from farm.cli.serve import until_ctrl_c
from farm.client import Farm
from farm.errors import FarmError, InvalidInput
from farm.health import Probe, run_probe
from farm.settings import Settings
from farm.store import open_store, without_credentials


@click.command()
@json_option("print one line of JSON per job")
def recover(as_json: bool) -> None:
    """Resume jobs that the registry has lost.

    They are restored from the store; those that had not ended continue after their last committed
    step. Of jobs that the registry knows only what is missing is entered, so this is safe to run at
    any time and more than once.

    Example: farm recover
    """
    counts: Counter[str] = Counter()
    for job in Farm().recover():
        counts[job.outcome] += 1
        if as_json:
            fields = ("job_id", "outcome", "reason", "kept")
            click.echo(json.dumps({field: getattr(job, field) for field in fields}))
        else:
            echo(f"{job.job_id}  {job.outcome:13}  {job.reason or ''}".rstrip())
    if not as_json:
        summary = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
        click.echo(f"jobs in the store: {summary or 'none'}")


@click.command()
def bucket() -> None:
    """Create the S3 bucket of FARM_STORE_URL if there is none.

    Its keys have to be allowed that; a farm at work needs them for objects only.

    Example: farm bucket
    """
    from farm.store.s3 import S3Store

    settings = Settings.load(os.environ)
    store = open_store(settings.store_address, settings)
    if not isinstance(store, S3Store):
        address = without_credentials(settings.store_address)
        raise InvalidInput(f"FARM_STORE_URL: got {address!r}; allowed: s3://bucket/prefix")
    click.echo(f"{store.bucket} {'was created' if store.create_bucket() else 'is there'}")


@click.command()
@click.option("--dry-run", is_flag=True, help="only list what would be removed")
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(1),
    help="do it again after as many seconds, until Ctrl-C; default: once",
)
@json_option("print one line of JSON per removal")
def gc(dry_run: bool, every_s: float | None, as_json: bool) -> None:
    """Remove what no job needs any more.

    It is removed from the store, the registry and this machine's temporary folder: superseded
    attempts; everything but the video of jobs that ended FARM_KEEP_INTERMEDIATES_S ago; jobs that
    ended FARM_KEEP_JOBS_S ago; uploads and shared features that were written FARM_KEEP_SHARED_S
    ago; scratch folders of dead workers. What live jobs may need, and jobs that the registry does
    not know, are never removed.

    Example: farm gc --dry-run
    """
    if every_s is None:
        _collect(dry_run=dry_run, as_json=as_json)
        return
    with until_ctrl_c("gc has stopped"):
        while True:
            try:
                _collect(dry_run=dry_run, as_json=as_json)
            except FarmError as error:  # the next time may succeed
                print_error(error)
            time.sleep(every_s)


def _collect(*, dry_run: bool, as_json: bool) -> None:
    objects = 0
    size = 0
    for garbage in Farm().gc(dry_run=dry_run):
        objects += garbage.objects
        size += garbage.bytes
        if as_json:
            fields = ("reason", "name", "objects", "bytes")
            click.echo(json.dumps({field: getattr(garbage, field) for field in fields}))
        else:
            echo(f"{_gc_line(garbage.reason, garbage.objects, garbage.bytes)}  {garbage.name}")
    if not as_json:
        click.echo(_gc_line("would remove" if dry_run else "removed", objects, size))


def _gc_line(title: str, objects: int, size: int) -> str:
    return f"{title:12}  {objects:5}  {size / 1e6:10.3f} MB"


@click.command()
@click.option("--startup", "probe", flag_value="startup", help="has it loaded the model?")
@click.option(
    "--ready", "probe", flag_value="ready", default="ready", help="does it take work? the default"
)
@click.option("--live", "probe", flag_value="live", help="is its process alive?")
@click.argument("worker", required=False)
def health(probe: Probe, worker: str | None) -> None:
    """Say whether a worker of this machine is well.

    WORKER need not be given if there is one only; otherwise they are listed: gpu, gpu-2, ... in the
    order of their starts. The exit status is 1 if it is not well, and 2 if it has to be named. Its
    health files are read and no broker is asked, so it is also right while the broker is down.

    Example: farm health --ready gpu-2
    """
    run_probe(probe, worker)


@click.command()
@click.option(
    "--deep", is_flag=True, help="also compare every tensor, and try GPU and attention kernels"
)
@json_option("print one line of JSON per check")
def doctor(deep: bool, as_json: bool) -> None:
    """Check everything that a farm needs.

    That is the broker, the registry, the clock, jobs, the reaper, queues, the store, whether store
    and registry belong to one farm, workers, weights, the GPU, ffmpeg and free disk space. Each
    warning or error comes with a remedy. The exit status is 1 after an error.

    Example: farm doctor
    """
    from farm.monitoring.doctor import run_checks

    statuses = set()
    for finding in run_checks(Settings.load(os.environ), deep=deep):
        statuses.add(finding.status)
        if as_json:
            click.echo(json.dumps(asdict(finding)))
            continue
        start = f"{finding.status:7}  {finding.check:8}  "
        print_line(start + finding.message, finding.status)
        if finding.remedy:
            click.echo(f"{' ' * len(start)}-> {finding.remedy}")
    if "error" in statuses:
        raise SystemExit(FAILED)
