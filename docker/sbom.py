"""Lists what is in images: `make sbom`.

    python docker/sbom.py FOLDER IMAGE ...

Of each image: its Python packages as CycloneDX, by cyclonedx-py in the image itself; their
licences; and the packages of its Debian. The tool is mounted, so the image is listed as it is run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

TOOL = Path(__file__).parents[1] / ".sbom"
RUN = (
    "import runpy, sys; sys.path.append('/sbom'); runpy.run_module('cyclonedx_py', alter_sys=True)"
)
"""Not by PYTHONPATH: the interpreter that is listed would have the tool's packages too."""

LIST = ("environment", "--no-validate", "--output-format", "JSON", "/opt/farm/venv/bin/python")
PACKAGES = ("dpkg-query", "--show", "--showformat=${Package} ${Version}\n")


def main(folder: Path, images: list[str]) -> None:
    """Writes three files for each image."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        path = folder / image.replace("/", "_").replace(":", "-")
        listed = run(image, "python", "-c", RUN, *LIST)
        lines = sorted(map(licence_line, json.loads(listed)["components"]))
        path.with_suffix(".cdx.json").write_text(listed)
        path.with_suffix(".licences.txt").write_text("\n".join(lines) + "\n")
        path.with_suffix(".debian.txt").write_text(run(image, *PACKAGES))
        print(f"{image}: {len(lines)} Python packages, in {path}.*")


def run(image: str, program: str, *words: str) -> str:
    """What a program prints in an image, without a network."""
    options = (
        "--rm",
        "--network=none",
        "--read-only",
        "--cap-drop=ALL",
        f"--volume={TOOL}:/sbom:ro",
    )
    command = ["docker", "run", *options, f"--entrypoint={program}", image, *words]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout  # noqa: S603


def licence_line(component: dict[str, Any]) -> str:
    """Name, version and licences of a package."""
    found = []
    for each in component.get("licenses", []):
        licence = each.get("license", {})
        found.append(each.get("expression") or licence.get("id") or licence.get("name"))
    return (
        f"{component['name']} {component['version']}: {', '.join(filter(None, found)) or 'unknown'}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
