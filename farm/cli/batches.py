"""Commands that make many videos from one file."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from farm.batch.results import DONE, Outcome, open_results
from farm.batch.rows import Row, rows
from farm.batch.run import Batch, BatchSpec, load_batch, save_batch, summary
from farm.batch.saving import check_batch_outputs, make_save_folder, save_earlier, save_video
from farm.batch.table import encoding_note
from farm.cli.exit_codes import FAILED, INVALID_INPUT
from farm.cli.options import FILE, TARGET, json_option
from farm.cli.render import echo, hint, print_line
from farm.cli.requests import estimating_farm
from farm.client import Farm
from farm.client.job import check_target
from farm.client.progress import batch_progress, print_note
from farm.client.voices import is_read_by_default
from farm.errors import FarmError, one_line
from farm.estimate import Estimate, money, work
from farm.job import PRIORITIES
from farm.job.voices import DEFAULT_VOICE
from farm.registry.spending import HOUR_S

REMAKE = click.option(
    "--remake", is_flag=True, help="also make rows again that were changed since their video"
)
OUTCOMES = json_option("print one line of JSON per row as it ends, without a progress bar")


class BatchGroup(click.Group):
    """Names `run` to those who type a file only."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and Path(args[0]).is_file():
            ctx.fail(f"No such command {args[0]!r}. Did you mean 'run {args[0]}'?")
        return super().resolve_command(ctx, args)


@click.group(cls=BatchGroup)
def batch() -> None:
    """Make many videos from one file.

    The file is a table (CSV, also as Excel saves it), JSON Lines, or a JSON with a batch.

    Example: farm batch run jobs.csv
    """


@batch.command()
@click.argument("file", type=FILE)
@click.option(
    "--output",
    "-o",
    default=Path("results.csv"),
    show_default=True,
    type=TARGET,
    help="the results, a CSV to which rows are appended",
)
@click.option("--dry-run", is_flag=True, help="only check every row and estimate its cost")
@click.option(
    "--priority",
    type=click.Choice(PRIORITIES),
    default="low",
    show_default=True,
    help="priority of rows that name none",
)
@click.option(
    "--max-in-flight",
    default=20,
    show_default=True,
    type=click.IntRange(1),
    help="most jobs at a time",
)
@click.option(
    "--save",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="also save each video there, as the id of its row and .mp4",
)
@REMAKE
@OUTCOMES
def run(
    file: Path,
    output: Path,
    dry_run: bool,
    priority: Any,
    max_in_flight: int,
    save: Path | None,
    remake: bool,
    as_json: bool,
) -> None:
    """Make a video of every row of FILE.

    A line is appended to the results as each row ends. Columns are id, the contract's fields, with
    parts as in cond_audio.person1, and the short names of `farm submit`: image, audio, text ...
    Paths are relative to FILE's folder. The same command resumes: rows that have a video are
    skipped, and told if they were changed since; the others are tried again, unless their own
    idempotency_key has a job already.

    Example: farm batch run jobs.csv -o results.csv
    """
    _print_notes(file)
    check_batch_outputs(file, output, save)
    if dry_run:
        _estimate_batch(file, as_json)
        return
    check_target(output)
    spec = BatchSpec(
        file=file.resolve(),
        output=output.resolve(),
        priority=priority,
        max_in_flight=max_in_flight,
        save=save and make_save_folder(save),
    )
    _run_batch(Farm(), spec, remake=remake, as_json=as_json)


@batch.command()
@click.argument("batch_id")
@REMAKE
@OUTCOMES
def resume(batch_id: str, remake: bool, as_json: bool) -> None:
    """Resume an interrupted batch.

    Run it on the machine that has the batch's file.

    Example: farm batch resume ID
    """
    farm = Farm()
    spec = load_batch(farm, batch_id)
    check_batch_outputs(spec.file, spec.output, spec.save)
    _run_batch(farm, spec, remake=remake, as_json=as_json)


def _print_notes(file: Path) -> None:
    """Says how a batch is read that does not say so itself."""
    if note := encoding_note(file):
        echo(f"note: {note}", err=True)
    if read_by_default := sum(is_read_by_default(row.fields) for row in rows(file)):
        echo(
            f"note: no voice is given in {read_by_default} of the rows, so {DEFAULT_VOICE} reads "
            "the text; `farm voices` lists others",
            err=True,
        )


def _run_batch(farm: Farm, spec: BatchSpec, *, remake: bool, as_json: bool) -> None:
    """Runs a batch to its end; exits with status 1 unless every row has its video."""
    names = [row.id for row in rows(spec.file)]
    counts: Counter[str] = Counter()
    with open_results(spec.output, batch=spec.id) as results:
        save_batch(farm, spec)
        counts["success"] = len(results.done & set(names))
        if as_json:
            started = {"batch": spec.id, "rows": len(names), "done": counts["success"]}
            click.echo(json.dumps({**started, "results": str(spec.output)}))
        else:
            click.echo(spec.id)
        _show_batch(Batch(farm, spec, results, remake), len(names), counts, as_json)
        counts["success"] = len(results.done & set(names))
    if not as_json:
        click.echo(f"{_rows(len(names))}: {summary(counts)}; {spec.output}")
        if counts["success"] and not spec.save:
            hint("the same command with --save FOLDER saves the videos")
    if counts["success"] < len(names):
        raise SystemExit(FAILED)


def _show_batch(batch: Batch, total: int, counts: Counter[str], as_json: bool) -> None:
    """Prints each outcome of a running batch, and counts it."""
    console = Console(stderr=True, quiet=as_json)
    made_before = set(batch.results.done)
    for fault in save_earlier(batch.farm, batch.results, batch.spec.save):
        echo(fault, err=True)
    with batch_progress(console, total, done=counts["success"]) as report:
        batch.warn = partial(print_note, console)
        try:
            for outcome in batch.run():
                counts[outcome.status] += 1
                reason = _saved(batch, outcome) or _reason(outcome)
                if outcome.id in made_before:  # the bar has counted it
                    echo(f"{outcome.status:9}  {outcome.id}  {reason}", err=True)
                else:
                    report(outcome.id, outcome.status, reason, summary(counts))
                if as_json:
                    click.echo(json.dumps(asdict(outcome)))
        except KeyboardInterrupt:
            console.print(
                "submitted jobs continue; "
                f"`farm batch resume {batch.spec.id}` continues with the other rows",
                soft_wrap=True,
            )
            raise


def _saved(batch: Batch, outcome: Outcome) -> str:
    """Saves the video of a row; why it could not be, or nothing."""
    if batch.spec.save is None or outcome.status != DONE:
        return ""
    return save_video(batch.farm, outcome.id, outcome.job_id, batch.spec.save)


def _reason(outcome: Outcome) -> str:
    """Why a row has no video."""
    return f"{outcome.code}: {outcome.message}" if outcome.code else ""


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


@dataclass
class _Totals:
    """The sums of a dry run."""

    valid: int = 0
    invalid: int = 0
    unknown: int = 0
    cost: float | None = None
    gpu_s: dict[tuple[str, bool], float] = field(default_factory=lambda: defaultdict(float))
    """By pace, and by whether it is that of a CPU."""

    def add(self, estimated: Estimate) -> None:
        self.valid += 1
        if estimated.gpu_s is None:
            self.unknown += 1
            return
        self.gpu_s[estimated.pace, estimated.on_cpu] += estimated.gpu_s
        if estimated.cost is not None:
            self.cost = (self.cost or 0.0) + estimated.cost

    def __str__(self) -> str:
        parts = [f"{_rows(self.valid + self.invalid)}: {self.valid} valid, {self.invalid} invalid"]
        for (pace, on_cpu), seconds in sorted(self.gpu_s.items()):
            amount = (f"{seconds / HOUR_S:,.1f}", "hours")
            if seconds < HOUR_S:
                amount = (f"{seconds:,.0f}", "seconds")
            parts.append(f"about {work(*amount, on_cpu=on_cpu)} at {pace}")
        if self.cost is not None:
            parts.append(f"cost about {money(self.cost)}")
        if self.unknown:
            parts.append(f"without {self.unknown} of unknown length")
        return "; ".join(parts)


def _estimate_batch(file: Path, as_json: bool) -> None:
    """Prints the estimate of each row, then their sums; exits with status 2 for an invalid row."""
    totals = _Totals()
    farm = estimating_farm()
    estimator = farm.estimator()
    for row in rows(file):
        try:
            with row.as_typed():
                estimated = farm.estimate(row.request(), estimator=estimator)
        except FarmError as error:
            totals.invalid += 1
            fields = {"code": error.code, "message": error.message}
            _print_row(row, f"{error.code}: {one_line(error.message)}", fields, as_json)
        else:
            totals.add(estimated)
            _print_row(row, str(estimated), asdict(estimated), as_json)
    if not as_json:
        click.echo(str(totals))
    if totals.invalid:
        raise SystemExit(INVALID_INPUT)


def _print_row(row: Row, text: str, fields: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"line": row.line, "id": row.id, **fields}))
    else:
        print_line(f"{row.line:6}  {row.id:20}  {text}", fields.get("code", ""), "red")
