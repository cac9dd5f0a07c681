"""Breaks a farm in every way we know, and counts: python -m tests.chaos [--long] [--s3] [SCENARIO ...]"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path

from tests.chaos.run import reference, run
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.tally import Tally
from tests.support.swift import Swift

COLUMNS = [each.name for each in fields(Tally)][1:]


@contextmanager
def stored(folder: Path, *, s3: bool) -> Iterator[Swift | None]:
    """A service of S3 while the block runs, if one is wanted."""
    service = Swift(folder / "swift") if s3 else None
    try:
        yield service
    finally:
        if service:
            service.stop()


def main() -> int:
    reading = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    reading.add_argument("--long", action="store_true", help="more jobs and more faults")
    reading.add_argument("--s3", action="store_true", help="goods lie with a service of S3 and not in a folder")
    reading.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"any of {', '.join(SCENARIOS)}; else all")
    wanted = reading.parse_args()
    if unknown := set(wanted.scenarios) - SCENARIOS.keys():
        reading.error(f"SCENARIO: got {', '.join(sorted(unknown))}; allowed: {', '.join(SCENARIOS)}")
    good = True
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch, stored(Path(scratch), s3=wanted.s3) as service:
        expected = reference(Path(scratch))
        print(f"{'':52}", *(f"{name.replace('_', ' '):>15}" for name in COLUMNS))
        for name in wanted.scenarios or SCENARIOS:
            tally = run(SCENARIOS[name], Path(scratch, name), expected, long=wanted.long, service=service)
            good &= tally.good
            row = asdict(tally)
            print(f"{tally.scenario:52}", *(f"{row[column]:15.4g}" for column in COLUMNS), flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
