"""An example in JavaScript or TypeScript with the packages that it locks."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.conftest import EXAMPLES
from tests.support.programs import installed_program


def node_example(name: str, folder: Path) -> Path:
    """A folder with a copy of an example, installed; the test is skipped if npm reaches nothing."""
    npm = installed_program("npm")
    for file in (EXAMPLES / name).iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"npm cannot install the packages of {name}: {installed.stderr[-200:]}")
    return folder


def run_in(folder: Path, *command: str, environ: Mapping[str, str]) -> Iterator[str]:
    """The lines that a program prints, as they come; it has to succeed."""
    printed = []
    with subprocess.Popen(
        [installed_program(command[0]), *command[1:]],
        cwd=folder,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as program:
        for line in program.stdout or ():
            printed.append(line)
            yield line.rstrip("\n")
    assert program.returncode == 0, "".join(printed)
