"""An example in JavaScript or TypeScript with the packages that it locks."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
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


def run_in(folder: Path, *command: str, environ: Mapping[str, str]) -> str:
    """What a program prints; it has to succeed."""
    done = subprocess.run(
        [installed_program(command[0]), *command[1:]],
        cwd=folder,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
