"""What `make` installs, with programs that only record how they are called."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.blocks import ROOT

PIP = """#!/bin/sh
echo "pip $*" >> calls
case "$*" in "index versions -v torch") echo "torch (2.13.0$OFFERED)";; esac # also with PIP_QUIET
"""


@pytest.mark.parametrize(
    ("card", "system", "offered", "file", "installer"),
    [
        (False, "Linux", "+cpu", "torch-cpu", "pip"),
        (False, "Linux", "", "torch-cpu", "uv"),
        (True, "Linux", "+cpu", "torch-cuda", "pip"),
        (True, "Linux", "", "torch-cuda", "pip"),
        (False, "Darwin", "", "torch-cuda", "pip"),
    ],
)
def test_without_an_nvidia_card_no_cuda_is_downloaded(
    tmp_path: Path, card: bool, system: str, offered: str, file: str, installer: str
) -> None:
    write(tmp_path / "path/uname", f"#!/bin/sh\necho {system}\n")
    write(tmp_path / "path/nvidia-smi", f"#!/bin/sh\n{'true' if card else 'false'}\n")
    write(tmp_path / ".venv/bin/pip", PIP)
    write(tmp_path / ".venv/bin/uv", "#!/bin/sh\necho uv $* >> calls\n")
    (tmp_path / "pyproject.toml").touch()
    environ = {"PATH": f"{tmp_path}/path:/usr/bin:/bin", "OFFERED": offered}
    command = ["make", "--file", str(ROOT / "Makefile"), "PYTHON=true", ".venv/ready"]
    subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, check=True)
    calls = (tmp_path / "calls").read_text().splitlines()
    (torch,) = [call for call in calls if "requirements/torch" in call]
    assert torch.endswith(f"-r requirements/{file}.txt")
    assert torch.split()[0] == installer
    assert ("--torch-backend cpu" in torch) == (installer == "uv")
    assert "--require-hashes" in torch


def write(program: Path, text: str) -> None:
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(text)
    program.chmod(0o755)
