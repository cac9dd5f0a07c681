"""What a video loses of its voice is said on every interface, as soon as it is known."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import click
import pytest
from rich.console import Console

from farm.batch.results import open_results
from farm.batch.run import Batch, BatchSpec
from farm.cli import cli
from farm.client import Farm, Job
from farm.client.progress import follow
from farm.client.runpod.status import Progress, advance
from farm.errors import DownloadFailed
from farm.gateway import answers
from farm.gateway.v1.answers import JobSummary
from farm.gateway.v1.signed import Signer
from farm.job import Event, JobStatus, Result
from farm.net.runpod import RemoteStatus
from farm.registry.status_record import queued
from farm.runpod.whole_job import WholeJob
from farm.ui import view
from tests.conftest import EXAMPLES
from tests.support.cli import Run
from tests.support.jobs import TRIAL

CUT = (
    "the voice lasts 8.96 s, the video ends after 3.24 s "
    "(mode clip makes one chunk; use mode auto for all of it)"
)
PORTRAIT = str(EXAMPLES / "portrait.png")
VOICE = str(EXAMPLES / "speech.wav")
OPTIONS = ("--image", PORTRAIT, "--audio", VOICE, "--mode", "clip")

COMMANDS: dict[str, tuple[str, ...]] = {
    "submit": OPTIONS,
    "payload": OPTIONS,
    "status": ("JOB",),
    "watch": ("JOB",),
    "result": ("JOB",),
    "open": ("JOB",),
    "batch run": ("FILE", "--dry-run"),
}
"""Commands with what they are called with; JOB has ended, FILE is a table with one row."""

SILENT = {"cancel", "delete", "logs", "retry"}
"""Commands that show no video."""


@pytest.fixture
def job(farm: Farm) -> Job:
    """A job that waits, with one chunk of a longer recording."""
    return farm.submit(cond_video=PORTRAIT, cond_audio={"person1": VOICE}, mode="clip")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.csv"
    path.write_text(f"cond_video,cond_audio.person1,mode\n{PORTRAIT},{VOICE},clip\n")
    return path


def embed(job: Job) -> None:
    event = Event(stage="embeddings_ok", pct=15, job_id=job.id, warnings=(CUT,))
    job.context.registry.jobs.report(event)


def end(job: Job) -> None:
    result = Result(job_id=job.id, status="success", warnings=(CUT,))
    job.context.registry.jobs.end(job.id, "success", result)


# The command line


def test_a_dry_run_says_what_would_be_cut(run: Run) -> None:
    assert CUT in run("submit", *OPTIONS, "--dry-run").stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_what_is_cut_once(run: Run, job: Job, table: Path, command: str) -> None:
    embed(job)
    end(job)
    named = {"JOB": job.id, "FILE": str(table)}
    arguments = [named.get(each, each) for each in COMMANDS[command]]
    printed = run(*command.split(), *arguments).output
    assert printed.count(CUT) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_only_submit_says_what_the_model_is_good_for(
    run: Run, job: Job, table: Path, command: str
) -> None:
    end(job)
    named = {"JOB": job.id, "FILE": str(table)}
    arguments = [named.get(each, each) for each in COMMANDS[command]]
    printed = run(*command.split(), *arguments)
    assert printed.output.count(TRIAL) == (command == "submit") == printed.stderr.count(TRIAL)


GERMAN = "Guten Tag, wie geht es Ihnen heute?"
BY_DEFAULT = "no voice is given, so en-us reads the text; `farm voices` lists others"


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]], ids=["submit", "dry run"])
@pytest.mark.parametrize(
    ("options", "times"),
    [
        (["--text", GERMAN], 1),
        (["--text", GERMAN, "--voice", "de"], 0),
        (["--text", "Good morning, and welcome."], 0),
        (["--text", GERMAN, "--json"], 0),
        (["--audio", VOICE], 0),
    ],
    ids=["German", "with a voice", "English", "JSON", "recording"],
)
def test_the_default_voice_is_named_for_a_text_that_may_not_be_english(
    run: Run, options: list[str], times: int, dry_run: list[str]
) -> None:
    printed = run("submit", "--image", PORTRAIT, *options, *dry_run)
    assert printed.exit_code == 0
    assert printed.stderr.splitlines().count(f"note: {BY_DEFAULT}") == times
    assert printed.output.count("en-us") == times


def test_a_batch_says_once_how_many_rows_the_default_voice_reads(run: Run, table: Path) -> None:
    spoken = [(GERMAN, ""), (GERMAN, "de"), ("Good morning.", ""), (GERMAN, "")]
    rows = (f'{PORTRAIT},"{text}",{voice}' for text, voice in spoken)
    table.write_text("\n".join(["image,text,voice", *rows]))
    printed = run("batch", "run", str(table), "--dry-run").stderr
    assert printed == (
        "note: no voice is given in 2 of the rows, so en-us reads the text; "
        "`farm voices` lists others\n"
    )


def test_every_command_about_a_job_is_one_of_these() -> None:
    about_jobs = {
        name
        for name, command in _commands(cli)
        if {"job_id", "job_ids", "prompt", "max_in_flight"} & {each.name for each in command.params}
    }
    assert about_jobs == COMMANDS.keys() | SILENT


def _commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from _commands(command, f"{name} ")
        elif command:
            yield prefix + name, command


def test_a_batch_says_it_before_the_row_ends_and_writes_it_into_its_results(
    farm: Farm, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farm.batch.run.POLL_INTERVAL_S", 0.01)
    said: list[str] = []
    submit = Farm.submit

    def submit_and_embed(self: Farm, *fields: Any) -> Job:
        job = submit(self, *fields)
        embed(job)
        return job

    def warn(row_id: str, warning: str) -> None:
        (job,) = batch.in_flight.values()
        assert not job.status().ended
        said.append(warning)
        end(job)

    monkeypatch.setattr(Farm, "submit", submit_and_embed)
    spec = BatchSpec(file=table, output=tmp_path / "results.csv")
    with open_results(spec.output, batch=spec.id) as results:
        batch = Batch(farm, spec, results, warn=warn)
        (outcome,) = batch.run()
    assert said == [CUT] == [outcome.warnings]
    (line,) = csv.DictReader(spec.output.open())
    assert line["warnings"] == CUT


# Everything that shows a job that goes on


def through_the_bar(job: Job) -> str:
    end(job)
    console = Console(file=StringIO(), force_terminal=True, width=200)
    follow(job, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_a_bar_is_one_line_of_80_columns(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    details = {"chunk": 119, "chunks": 120, "step": 40, "steps": 40, "eta_s": 5390}
    event = Event(stage="chunk_119_sampling_90", pct=90, job_id=job.id, details=details)
    monkeypatch.setattr(Job, "events", lambda self: iter([event]))
    console = Console(file=StringIO(), force_terminal=True, color_system=None, width=80)
    follow(job, console)
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(r"sampling +━+ +90% chunk 120/120, step 40/40, 90 min left 0:00:0\d", drawn)


def through_a_handler(job: Job) -> Any:
    whole = WholeJob.__new__(WholeJob)
    whole.farm = Farm(settings=job.context.settings)
    whole.job_id = job.id
    return whole.newest()


def through_an_endpoint(job: Job) -> JobStatus:
    """The status of a client, from what a handler reports."""
    progress = Progress.read(through_a_handler(job)) or Progress()
    remote = RemoteStatus(id=job.id, status="IN_PROGRESS")
    return advance(queued(job.id, 0), remote, progress, 0)


RUNNING: dict[str, Callable[[Job], Any]] = {
    "Job.status": lambda job: job.status().warnings,
    "Job.events": lambda job: next(job.events()).warnings,
    "bar": through_the_bar,
    "page": lambda job: view.bar(job.status()),
    "gateway": lambda job: answers.whole(job.status(), now=0, queue_position=None)["output"],
    "HTTP API": lambda job: JobSummary.of(job.status(), Signer(b"", now=0)).warnings,
    "handler": through_a_handler,
    "endpoint": through_an_endpoint,
}


@pytest.mark.parametrize("interface", RUNNING)
def test_it_is_said_while_the_job_goes_on(job: Job, interface: str) -> None:
    embed(job)
    assert CUT in str(RUNNING[interface](job))


def test_it_is_known_at_submission_if_the_recording_is_here(job: Job) -> None:
    status = job.status()
    assert (status.state, status.warnings) == ("queued", (CUT,))


@pytest.mark.parametrize("ends", ["cancelled", "error"])
def test_a_retry_says_it_again(run: Run, farm: Farm, job: Job, ends: str) -> None:
    if ends == "error":
        job.context.registry.jobs.fail(job.id, DownloadFailed("404"), at_stage="downloads_started")
    else:
        job.cancel()
    again = run("retry", job.id)
    assert again.stderr.splitlines()[-1] == f"note: {CUT}"
    assert CUT in farm.job(again.stdout.strip()).status().warnings


def test_a_later_event_without_warnings_keeps_them(job: Job) -> None:
    embed(job)
    job.context.registry.jobs.report(Event(stage="chunk_0_pre", pct=20, job_id=job.id))
    assert job.status().warnings == (CUT,)
