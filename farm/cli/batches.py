"""Commands that make many videos from one file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from farm.batch.results import open_results
from farm.batch.rows import Row, rows
from farm.batch.run import Batch, Order, remember, remembered, summary
from farm.cli.exit_codes import FAILED, WRONG
from farm.cli.options import FILE, TARGET, json_option
from farm.cli.render import tell
from farm.client import Farm
from farm.client.estimate import estimate
from farm.client.job import check_target
from farm.client.progress import counted
from farm.errors import FarmError

OUTCOMES = json_option("print each row as it ends as JSON Lines, and no bar")


@click.group()
def batch() -> None:
    """Make many videos from one file: a CSV, JSON Lines, or a JSON with a batch.

    Example: farm batch run jobs.csv
    """


@batch.command()
@click.argument("file", type=FILE)
@click.option("--out", default=Path("results.csv"), show_default=True, type=TARGET)
@click.option("--dry-run", is_flag=True, help="only check every row and say what it will take")
@click.option(
    "--priority",
    type=click.Choice(["low", "normal", "high"]),
    default="low",
    show_default=True,
    help="of all its jobs",
)
@click.option(
    "--in-flight",
    default=20,
    show_default=True,
    type=click.IntRange(1),
    help="jobs at once, at most",
)
@OUTCOMES
def run(file: Path, out: Path, dry_run: bool, priority: Any, in_flight: int, as_json: bool) -> None:
    """Make a video of every row of FILE, and write a line into the results as each ends.

    Columns are the contract's fields, with parts as in cond_audio.person1, and id. Relative paths start at FILE's
    folder. The same command again goes on: rows that have their video are left alone, the others are tried again.

    Example: farm batch run jobs.csv --out results.csv
    """
    if dry_run:
        _tell_forecast(file, as_json)
    else:
        check_target(out)
        order = Order(
            file=file.resolve(), out=out.resolve(), priority=priority, in_flight=in_flight
        )
        _run_batch(Farm(), order, as_json)


@batch.command("watch")
@click.argument("batch_id")
@OUTCOMES
def watch_batch(batch_id: str, as_json: bool) -> None:
    """Go on with a batch that was broken off, on the machine that has its file.

    Example: farm batch watch ID
    """
    farm = Farm()
    _run_batch(farm, remembered(farm, batch_id), as_json)


def _run_batch(farm: Farm, order: Order, as_json: bool) -> None:
    """Sees a batch through; fails unless every row has its video."""
    console, counts = Console(stderr=True, quiet=as_json), Counter[str]()
    names = [row.name for row in rows(order.file)]
    total = len(names)
    with open_results(order.out, batch=order.id) as results:
        remember(farm, order)
        counts["success"] = len(results.done.intersection(names))
        begun = {
            "batch": order.id,
            "rows": total,
            "done": counts["success"],
            "results": str(order.out),
        }
        click.echo(json.dumps(begun) if as_json else order.id)
        with counted(console, total, done=counts["success"]) as report:
            try:
                for outcome in Batch(farm, order, results).run():
                    counts[outcome.status] += 1
                    why = f"{outcome.code}: {outcome.message}" if outcome.code else ""
                    report(outcome.id, outcome.status, why, summary(counts))
                    if as_json:
                        click.echo(json.dumps(asdict(outcome)))
            except KeyboardInterrupt:
                console.print(
                    f"the farm goes on with what was submitted; `farm batch watch {order.id}` with the rest"
                )
                raise
    if not as_json:
        click.echo(f"{total} rows: {summary(counts)}; {order.out}")
    if counts["success"] < total:
        raise SystemExit(FAILED)


def _tell_forecast(file: Path, as_json: bool) -> None:
    """A line for each row, then their sums; the input is wrong if a row cannot become a job."""
    counts, gpu_s, unheard = Counter[str](), 0.0, 0
    for row in rows(file):
        try:
            ahead = estimate(row.request())
        except FarmError as error:
            counts["invalid"] += 1
            _tell_row(
                row,
                f"{error.code}: {error.message}",
                {"code": error.code, "message": error.message},
                as_json,
            )
            continue
        counts["good"] += 1
        gpu_s += ahead.gpu_s or 0
        unheard += ahead.gpu_s is None
        told = "not known before its sound is here"
        if ahead.gpu_s is not None:
            told = f"{ahead.frames:7} frames  {ahead.chunks:5} chunks  {ahead.gpu_s:8.0f} s"
        _tell_row(row, told, asdict(ahead), as_json)
    if not as_json:
        click.echo(
            f"{counts.total()} rows: {counts['good']} good, {counts['invalid']} invalid; "
            f"about {gpu_s / 3600:.1f} hours of one H100{f' without {unheard} that are not known' * (unheard > 0)}"
        )
    if counts["invalid"]:
        raise SystemExit(WRONG)


def _tell_row(row: Row, told: str, values: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"line": row.line, "id": row.name, **values}))
    else:
        tell(f"{row.line:6}  {row.name:20}  {told}", values.get("code", ""), "red")
