"""Completion by shells."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from farm.cli import cli

BIN = Path(sys.executable).parent


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_asks_farm(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])
    assert (done.exit_code, f"_FARM_COMPLETE={shell}_complete" in done.output) == (0, True)


def test_bash_completes_a_command() -> None:
    script = CliRunner().invoke(cli, ["completion", "bash"]).output
    line = "COMP_WORDS=(farm simu); COMP_CWORD=1; _farm_completion farm; echo ${COMPREPLY[@]}"
    command = ["bash", "-c", f"{script}\n{line}"]
    environ = {"PATH": f"{BIN}:/usr/bin:/bin"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("simulate\n", "")


def test_windows_is_refused_by_name() -> None:
    program = "import sys; sys.platform = 'win32'; import farm.__main__"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == "farm: this command needs Linux; on Windows it runs in WSL 2\n"
    assert done.returncode == 1
