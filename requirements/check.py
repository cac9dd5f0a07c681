"""What is installed agrees with itself, but for what `[tool.uv]` overrides: `make .venv/tools`.

pip refuses runpod beside gradio: one needs tomlkit from 0.15.1 on, the other one before 0.15. So
runpod is installed as it was locked, and `pip check` has to be read.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
OVERRIDDEN = "runpod"
"""The package whose requirements are overridden."""


def main() -> None:
    """Ends with the conflicts that nothing accounts for."""
    command = (sys.executable, "-m", "pip", "check")
    checked = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    found = conflicts(checked.stdout, overrides())
    if found:
        raise SystemExit("\n".join(found))


def conflicts(report: str, overridden: set[str]) -> list[str]:
    """The lines of `pip check` that are not about a requirement which is overridden."""
    names = "|".join(map(re.escape, sorted(overridden)))
    expected = re.compile(rf"{OVERRIDDEN} \S+ (?:requires|has requirement) (?:{names})\b")
    lines = [line for line in report.splitlines() if line != "No broken requirements found."]
    return [line for line in lines if not expected.match(line)]


def overrides() -> set[str]:
    """The names of the packages that `[tool.uv]` overrides."""
    tool = tomllib.loads(PROJECT.read_text())["tool"]["uv"]
    return {re.split(r"[<;\s]", line)[0] for line in tool["override-dependencies"]}


if __name__ == "__main__":
    main()
