"""Every command of the documents runs as typed.

bash runs the blocks of a page in one shell, with programs that record how they are called.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby, islice
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from farm.cli import cli
from farm.errors import FarmError
from farm.settings import Settings
from tests.support.blocks import PAGES, ROOT, Block, blocks

RECORDED = {
    "curl": "asks a server",
    "docker": "builds and runs images for minutes",
    "farm": "asks a farm, mostly; its arguments are parsed by the command itself",
    "ffplay": "opens a window",
    "kubectl": "asks a cluster",
    "grep": "searches the logs of a farm",
    "make": "installs, builds or tests for minutes; its targets are looked up",
    "node": "asks a server",
    "npm": "downloads",
    "openssl": "is not everywhere",
    "pip": "downloads",
    "pipx": "downloads",
    "python": "trains a model or makes pictures; its modules are looked up",
    "python3": "makes a folder of 3 GB",
    "rabbitmqctl": "asks a broker",
    "rsync": "is not everywhere",
    "sudo": "changes the machine",
    "systemctl": "changes the machine",
    "tar": "packs the folder of a broker",
    "uvx": "downloads",
    "valkey-cli": "asks a broker",
}
"""Programs that only record how they are called, each with the reason."""

RUN = ["base64", "cat", "head"]
"""Programs that run. Another one is no command, and its block fails."""

FARM = {
    "batch run": ["--dry-run"],
    "endpoint create": ["--dry-run"],
    "payload": [],
    "simulate": [],
    "submit": ["--dry-run"],
    "voices": [],
    "webhook-secret": [],
}
"""Commands of the farm that run as well, since they need no other farm with these options."""

STUB = """#!/bin/bash
words=("${0##*/}" "$@")
for name in $(compgen -e); do variables+=("$name=${!name}"); done
printf '%s\\0' ${#words[@]} "${words[@]}" ${#variables[@]} "${variables[@]}" >> "$CALLS"
while [ $# -gt 0 ]; do case $1 in -o|--output) touch "$2";; esac; shift; done
"""

START = "set -euo pipefail; trap 'echo $BLOCK >&2' EXIT"

PAGE = {page: list(each) for page, each in groupby(blocks("sh", "bash"), lambda each: each.page)}


@dataclass(frozen=True)
class Call:
    """One of a recorded program."""

    program: str
    arguments: list[str]
    environ: dict[str, str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a fresh clone is to the commands, with `.venv/bin` on the path."""
    for name in ("constraints.txt", "examples", "k8s", "requirements"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / ".env.example", tmp_path / ".env")
    programs = tmp_path / ".venv/bin"
    programs.mkdir(parents=True)
    for name in RECORDED:
        (programs / name).write_text(STUB)
        (programs / name).chmod(0o755)
    for name in ("bash", "touch", *RUN):
        (programs / name).symlink_to(shutil.which(name) or "")
    return tmp_path


@pytest.mark.parametrize("page", PAGE)
def test_every_command_runs(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FARM_HOME", str(folder / "home"))
    script = "\n".join(f"export BLOCK={block}\n{block.text}" for block in PAGE[page])
    for call in calls(f"{START}\n{script}\nwait", folder):
        problem = CHECKS.get(call.program, fine)(call)
        command = shlex.join([call.program, *call.arguments])
        assert not problem, f"{call.environ['BLOCK']}: {command}: {problem}"


@pytest.mark.parametrize("block", blocks("console"), ids=str)
def test_a_transcript_is_what_the_command_prints(
    block: Block, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    command, _, printed = block.text.partition("\n")
    done = CliRunner().invoke(cli, shlex.split(command)[2:])
    pattern = re.escape(printed).replace(re.escape("..."), ".*")
    assert re.fullmatch(pattern, done.output), done.output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_and_options_in_sentences_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for span in re.findall(r"`farm ([a-z][^`]*)`", text):
        _, command, rest = found(span.split())
        known = {"--help", *(name for each in command.params for name in each.opts)}
        unknown = [word for word in rest if word.startswith("--") and word not in known]
        assert not unknown, f"farm {span}"
    for span in re.findall(r"`make ([^`]*)`", text):
        assert not check_make(Call("make", re.sub(r"\w+=(\".*\")?", "=", span).split(), {})), span


def calls(script: str, folder: Path) -> list[Call]:
    """Those that a script makes of recorded programs."""
    written = folder / "calls"
    written.write_bytes(b"")
    path = str(folder / ".venv/bin")
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), "CALLS": str(written)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    words = iter(written.read_text().split("\0")[:-1])
    return [recorded(int(count), words) for count in words]


def recorded(count: int, words: Iterator[str]) -> Call:
    """The next one of what the programs have written."""
    program, *arguments = islice(words, count)
    environ = dict(each.split("=", 1) for each in islice(words, int(next(words))))
    return Call(program, arguments, environ)


def fine(call: Call) -> str:
    """No problem."""
    return ""


def check_curl(call: Call) -> str:
    """The file that would be sent and is missing."""
    files = [each.split("@")[1] for each in call.arguments if re.search(r"(^|=)@", each)]
    return " ".join(file for file in files if not Path(file).is_file())


def check_farm(call: Call) -> str:
    """What the farm command has against its arguments, and the settings against their values."""
    path, command, rest = found(call.arguments)
    try:
        Settings.load(call.environ)
        command.make_context("farm", [*rest], parent=click.Context(cli, **cli.context_settings))
    except (click.ClickException, FarmError) as error:
        return error.message
    more = FARM.get(" ".join(path))
    if more is None:
        return ""
    done = CliRunner(env=call.environ).invoke(cli, [*path, *rest, *more])
    return "" if done.exit_code == 0 else done.output


def found(arguments: list[str]) -> tuple[list[str], click.Command, list[str]]:
    """The names of the command, the command, and its own arguments."""
    command: click.Command = cli
    path: list[str] = []
    while isinstance(command, click.Group) and arguments:
        name, *arguments = arguments
        inner = command.get_command(click.Context(command), name)
        assert inner, f"there is no command {name}"
        command, path = inner, [*path, name]
    return path, command, arguments


def check_make(call: Call) -> str:
    """The targets that the Makefile has not."""
    targets = re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(), re.M)
    return " ".join(each for each in call.arguments if "=" not in each and each not in targets)


def check_pip(call: Call) -> str:
    """Extras, groups and files that the project has not; it is on no index."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {*project["optional-dependencies"]}
    for argument in call.arguments:
        named = re.fullmatch(r"(.*?)\[(.+)\]", argument)
        if argument.startswith(project["name"]):
            return f"{argument} is on no index"
        if named and named[1] == "." and (unknown := {*named[2].split(",")} - extras):
            return f"no extras: {unknown}"
        if argument.endswith(".txt") and not (ROOT / argument).is_file():
            return f"no file {argument}"
    return ""


def check_python(call: Call) -> str:
    """The module that is missing."""
    option, name, *_ = call.arguments
    return "" if option == "-m" and find_spec(name) else name


CHECKS = {
    "curl": check_curl,
    "farm": check_farm,
    "make": check_make,
    "pip": check_pip,
    "python": check_python,
    "python3": check_python,
}
