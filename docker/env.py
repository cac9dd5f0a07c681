"""Writes .env for compose.yaml from .env.example, with random passwords: `make .env`.

It is run before anything is installed, so it needs Python alone.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / ".env.example"


def filled(example: str) -> str:
    """The example with a secret of its own for each `random`."""
    return re.sub(
        r"^(\w+=(?:\w+:)?)random$",
        lambda line: line[1] + secrets.token_hex(24),
        example,
        flags=re.M,
    )


def main() -> None:
    """Writes the file, which only its owner can read; leaves one that exists as it is."""
    path = Path(sys.argv[1])
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise SystemExit(f"{path} exists, and stays as it is") from None
    with open(descriptor, "w") as file:
        file.write(filled(EXAMPLE.read_text()))


if __name__ == "__main__":
    main()
