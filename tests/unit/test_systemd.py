"""The units for systemd in docs/operations/systemd."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from farm.cli import cli
from farm.settings import Settings

FOLDER = Path(__file__).parents[2] / "docs" / "operations" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
INSTALLED = "/opt/infinitetalk-farm/.venv/bin/farm"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_them(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(FOLDER, tmp_path / "units"))
    for unit in copy.glob("*.service"):  # it looks for the program
        program = str(Path(sys.executable).with_name("farm"))
        unit.write_text(unit.read_text().replace(INSTALLED, program))
        unit.rename(unit.with_name(unit.name.replace("@", "@0")))
    units = [str(path) for path in copy.iterdir() if path.suffix in (".service", ".timer")]
    checked = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_each_starts_a_command(unit: Path) -> None:
    program, command, *arguments = re.findall(r"^ExecStart=(.+)$", unit.read_text(), re.M)[
        0
    ].split()
    assert program == INSTALLED
    cli.commands[command].make_context(command, arguments)


def test_a_stopped_worker_has_time_to_drain() -> None:
    for kind in ("cpu", "gpu@"):
        (timeout_s,) = re.findall(
            r"TimeoutStopSec=(\d+)", (FOLDER / f"farm-{kind}.service").read_text()
        )
        assert int(timeout_s) >= Settings().grace_s + 10  # docs/operations/draining.md


def test_the_example_of_their_variables_names_settings() -> None:
    names = re.findall(r"^(?:FARM_)(\w+)=", (FOLDER / "farm.env").read_text(), re.M)
    assert {name.lower() for name in names} <= set(Settings.model_fields)
