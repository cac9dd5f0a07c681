"""Processes of their own: the `farm` command, and programs in Python."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

from farm.settings import Settings

ROOT = Path(__file__).parents[2]


def environ_of(settings: Settings) -> dict[str, str]:
    """The variables by which a command finds a running farm."""
    return {
        "FARM_HOME": str(settings.home),
        "FARM_BROKER_URL": settings.broker_address,
        "FARM_REGISTRY_URL": settings.registry_address,
    }


def start_farm_command(
    environ: Mapping[str, str], *words: str, stderr: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    """Starts `farm WORDS` with further environment variables."""
    return subprocess.Popen(
        [sys.executable, "-m", "farm", *words],
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        cwd=ROOT,
    )


def run_farm_command(
    environ: Mapping[str, str], *words: str, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Runs `farm WORDS` with further environment variables to its end."""
    process = start_farm_command(environ, *words)
    stdout, stderr = process.communicate()
    assert not check or process.returncode == 0, stderr
    return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)


def run_python(
    program: str, *arguments: str, check: bool = True, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs a program in Python, with further environment variables, to its end."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What a process has printed when a text appears; AssertionError if it ends without it."""
    printed = ""
    while text not in printed:
        line = process.stdout.readline()
        assert line, f"it ended without printing {text!r}:\n{printed}"
        printed += line
    return printed
