"""`python -m tests.reference FOLDER...`: one line a case, exit status 1 if one of them fails."""

from __future__ import annotations

import sys
from pathlib import Path

from farm.errors import FarmError
from tests.reference.cases import Unsupported, run


def verdict(folder: Path) -> tuple[bool, str]:
    """Whether the case passed, and a line with its largest error."""
    name = folder.resolve().name
    try:
        comparisons = run(folder)
    except (Unsupported, FarmError, OSError) as reason:
        return False, f"FAIL  {name}: {reason}"
    worst = max(comparisons, key=lambda each: each.error / each.tolerance)
    passed = all(each.passed for each in comparisons)
    detail = f"({worst.tensor}; tolerance {worst.tolerance:.0e})"
    figures = f"largest relative error {worst.error:.1e} {detail}"
    return passed, f"{'ok  ' if passed else 'FAIL'}  {name}: {figures}"


def main(folders: list[str]) -> int:
    if not folders:
        print("usage: python -m tests.reference FOLDER...", file=sys.stderr)
        return 2
    passed = True
    for folder in map(Path, folders):
        if folder.is_file():  # `reference/*` matches its README as well
            print(f"skip  {folder.name}: not a case's folder")
            continue
        good, line = verdict(folder)
        print(line, flush=True)
        passed = passed and good
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
