"""The locked requirements, as tests compare them."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "requirements").glob("*.txt"))


def locked(name: str) -> dict[str, tuple[Requirement, int]]:
    """The requirements of a file and of what it includes, with the number of their hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    found = {}
    for line in text.replace("\\\n", "").splitlines():
        if line.startswith("-r "):
            found |= locked(line.removeprefix("-r ").removesuffix(".txt"))
        elif line[0] not in "#-":
            requirement, *hashes = re.split(r"\s+--hash=sha256:(?=[0-9a-f]{64}(?:\s|$))", line)
            found[canonicalize_name(Requirement(requirement).name)] = (
                Requirement(requirement),
                len(hashes),
            )
    return found
