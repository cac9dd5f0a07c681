"""checkov's policies for the overlays, a part of `make k8s-check`; exceptions: k8s/checkov.yaml."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from k8s.checks.manifests import OVERLAYS, render

CHECKOV = Path(__file__).parents[1] / ".lint" / "bin" / "checkov"
CONFIG = Path(__file__).with_name("checkov.yaml")


def main(arguments: Sequence[str]) -> int:
    """The exit status of checkov, which prints what fails."""
    with tempfile.TemporaryDirectory(prefix="farm-k8s-") as name:
        for folder in [Path(each) for each in arguments] or sorted(OVERLAYS.iterdir()):
            text = yaml.safe_dump_all(render(folder))
            (Path(name) / f"{folder.name}.yaml").write_text(text)
        command = (str(CHECKOV), "--config-file", str(CONFIG), "--directory", name)
        return subprocess.run(command, check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
