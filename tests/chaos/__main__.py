"""Breaks a farm in every way we know, and counts: python -m tests.chaos [--long] [SCENARIO ...]"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict, fields
from pathlib import Path

from tests.chaos.run import reference, run
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.tally import Tally

COLUMNS = [each.name for each in fields(Tally)][1:]


def main() -> int:
    reading = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    reading.add_argument("--long", action="store_true", help="more jobs and more faults")
    reading.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"any of {', '.join(SCENARIOS)}; else all")
    wanted = reading.parse_args()
    if unknown := set(wanted.scenarios) - SCENARIOS.keys():
        reading.error(f"SCENARIO: got {', '.join(sorted(unknown))}; allowed: {', '.join(SCENARIOS)}")
    good = True
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
        expected = reference(Path(scratch))
        print(f"{'':52}", *(f"{name.replace('_', ' '):>15}" for name in COLUMNS))
        for name in wanted.scenarios or SCENARIOS:
            tally = run(SCENARIOS[name], Path(scratch, name), expected, long=wanted.long)
            good &= tally.good
            row = asdict(tally)
            print(f"{tally.scenario:52}", *(f"{row[column]:15.4g}" for column in COLUMNS), flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
