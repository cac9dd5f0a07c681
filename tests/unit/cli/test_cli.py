"""The `farm` command: its help, colours, and exit status where there is no farm."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import click
import pytest
from click.testing import CliRunner

from farm.cli import HABITS, SECTIONS, STOP_WORDS, cli
from farm.job import Event
from tests.support.cli import OPTIONS, error_line, failed, finished
from tests.support.jobs import FIELDS


@pytest.mark.parametrize(
    ("args", "suggestion"),
    [
        (["submit", "--sample-step", "3"], "--sample-steps"),
        (["submit", "--promt", "x"], "--prompt"),
    ],
    ids=["--sample-step", "--promt"],
)
def test_an_unknown_option_is_answered_with_the_closest_one(run, args, suggestion):
    result = run(*args)
    assert result.exit_code == 2
    assert suggestion in result.stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(["submitt"], "submit"), (["ps"], "jobs"), (["list"], "jobs"), (["start", "-d"], "up")],
    ids=str,
)
def test_an_unknown_command_is_answered_with_the_one_that_is_meant(run, typed, meant):
    result = run(*typed)
    assert result.exit_code == 2
    assert f"No such command '{typed[0]}'. Did you mean '{meant}'?" in result.stderr


def test_stop_is_answered_with_the_ways_to_stop_a_farm_and_to_cancel_a_job(run):
    result = run("stop")
    assert result.exit_code == 2
    assert (
        "No such command 'stop'. Ctrl-C or SIGTERM stops `farm up`, `systemctl stop` a unit; "
        "`farm cancel ID` cancels a job."
    ) in result.stderr


def test_a_near_miss_of_a_command_in_a_group_is_answered_with_it(run):
    assert "Did you mean 'resume'?" in run("batch", "resum").stderr


def test_habits_name_commands_and_hide_none():
    assert set(HABITS.values()) <= set(cli.commands)
    assert not {*HABITS, *STOP_WORDS} & set(cli.commands)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every command and group, as it is typed."""
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", list(commands(cli)), ids=" ".join)
def test_the_help_of_every_command_has_an_example(path):
    result = CliRunner().invoke(
        cli, [*path, "--help"], env={"COLUMNS": "200", "FARM_BROKER_URL": None}
    )
    assert result.exit_code == 0
    assert f"Example: farm {' '.join(path)}" in result.stdout


def test_the_help_lists_every_command_in_a_section():
    listed = [command for section in SECTIONS.values() for command in section]
    assert {each.name for each in listed} == set(cli.commands)
    assert len(listed) == len(cli.commands)
    lines = CliRunner().invoke(cli, ["--help"]).stdout.splitlines()
    assert lines[lines.index("Make videos:") + 1].split()[:2] == ["submit", "Submit"]


GROUPS = {path[:-1] for path in commands(cli)}


@pytest.mark.parametrize("path", sorted(GROUPS), ids=" ".join)
def test_no_summary_of_a_command_is_cut_at_80_columns(path):
    printed = CliRunner().invoke(cli, [*path, "--help"], env={"COLUMNS": "80"}).stdout
    assert "..." not in printed.partition("Options:")[2]


def in_a_terminal(*args: str, **environ: str) -> str:
    """The output of a command in a terminal."""
    terminal, child_terminal = pty.openpty()
    kept = {
        name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")
    }
    command = [sys.executable, "-m", "farm", *args]
    with subprocess.Popen(
        command,
        stdout=child_terminal,
        stderr=child_terminal,
        env={**kept, "TERM": "xterm", **environ},
    ) as process:
        os.close(child_terminal)
        output = b""
        with suppress(OSError):  # EIO marks the end on Linux
            while part := os.read(terminal, 1024):
                output += part
    os.close(terminal)
    assert process.returncode == 0
    return output.decode()


RED = "\x1b[31m"


def test_states_are_coloured_in_a_terminal_only(run, farm):
    failed(farm)
    settings = farm.context.settings
    environ = {"FARM_HOME": str(settings.home), "FARM_BROKER_URL": str(settings.broker_url)}
    assert f"{RED}error" in in_a_terminal("jobs", **environ)
    assert RED not in in_a_terminal("jobs", **environ, NO_COLOR="1")
    assert "\x1b" not in run("jobs").stdout


def test_a_pipe_gets_lines_instead_of_a_bar(run, farm):
    result = run("watch", finished(farm))
    assert "\x1b" not in result.output
    assert "\r" not in result.output


def test_an_interrupted_command_is_status_130_and_its_job_continues(farm):
    job = farm.submit(FIELDS)
    settings = farm.context.settings
    farm.context.registry.jobs.report(Event(stage="validation_started", pct=0, job_id=job.id))
    environ = {
        **os.environ,
        "FARM_HOME": str(settings.home),
        "FARM_BROKER_URL": str(settings.broker_url),
    }
    command = [sys.executable, "-m", "farm", "watch", job.id]
    # As in a shell: tests that were started in the background ignore SIGINT.
    accept_sigint = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, env=environ, stderr=subprocess.PIPE, text=True, preexec_fn=accept_sigint
    ) as watching:
        assert "validation_started" in watching.stderr.readline()
        watching.send_signal(signal.SIGINT)
        message = watching.stderr.read()
    assert watching.returncode == 130
    assert message.endswith(
        f"job {job.id} continues; `farm watch {job.id}` follows it, "
        f"`farm cancel {job.id}` ends it\n"
    )
    assert job.status().state == "running"


@pytest.mark.parametrize(
    "args", [["jobs"], ["status", "a"], ["submit", *OPTIONS]], ids=lambda args: args[0]
)
def test_an_unreachable_broker_is_one_line_and_status_3(run, args):
    line = error_line(run(*args, FARM_BROKER_URL="redis://:secret@127.0.0.1:1/0"), status=3)
    assert line.startswith("E_UNREACHABLE: no broker answers at 127.0.0.1:1; is the farm up?")


def test_a_home_without_a_farm_is_one_line_and_status_3(tmp_path):
    result = CliRunner().invoke(
        cli, ["jobs"], env={"FARM_HOME": str(tmp_path), "FARM_BROKER_URL": None}
    )
    assert "no farm is up in" in error_line(result, status=3)


def test_a_misspelt_variable_is_one_line_and_status_2(run):
    assert "did you mean FARM_LEASE_S?" in error_line(run("jobs", FARM_LEASES_S="3"))


@pytest.mark.parametrize(
    "url",
    [
        "amqp://host",
        "redis://host:port/0",
    ],
)
def test_an_invalid_broker_url_is_one_line_and_status_2(run, url):
    assert "FARM_BROKER_URL" in error_line(run("jobs", FARM_BROKER_URL=url))


def test_help_and_version_need_no_farm():
    for args in (["--help"], ["-h"], ["--version"], ["submit", "-h"]):
        assert CliRunner().invoke(cli, args, env={"FARM_BROKER_URL": None}).exit_code == 0
