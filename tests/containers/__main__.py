"""Builds the images, starts the farm in Compose, breaks it in every known way, and counts.

python -m tests.containers [--long] [SCENARIO ...]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.containers.engine import Engine, open_engine
from tests.containers.images import (
    TARGETS,
    Builder,
    builder,
    make_clock,
    make_prometheus,
    make_rabbitmq,
    make_valkey,
)
from tests.containers.profiles import try_all
from tests.containers.project import open_project
from tests.containers.run import heading, row, run_all
from tests.containers.scenarios import LONG, SHORT


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.containers", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--long", action="store_true", help="all images, and all faults")
    names = ", ".join(LONG)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"any of {names}")
    options = parser.parse_args()
    unknown = sorted(set(options.scenarios) - LONG.keys())
    if unknown:
        parser.error(f"SCENARIO: got {', '.join(unknown)}; allowed: {names}")
    return options


def build(makes: Builder, targets: tuple[str, ...]) -> None:
    """Builds the images, and prints how long each took."""
    for target in targets:
        print(f"image {target}: {makes.build_target(target):.0f} s", flush=True)
    print(f"image s3: {makes.build_s3():.0f} s", flush=True)
    for make in (make_valkey, make_rabbitmq, make_prometheus):
        make(makes)
    make_clock(makes)
    makes.engine.run("tag", "infinitetalk-farm:cpu", "infinitetalk-farm-next:cpu")


def main() -> int:
    options = parse_options()
    scenarios = LONG if options.long or options.scenarios else SHORT
    if options.scenarios:
        scenarios = {name: LONG[name] for name in ("undisturbed", *options.scenarios)}
    with open_engine() as engine, builder(engine) as makes:
        build(makes, TARGETS if options.long else ("light", "cpu"))
        return break_farm(engine, scenarios, profiles=options.long)


def break_farm(engine: Engine, scenarios: dict, *, profiles: bool) -> int:
    """Prints the table; 1 if a job was lost or committed twice."""
    good = True
    with TemporaryDirectory() as folder, open_project(engine, Path(folder)) as project:
        if profiles:
            try_all(project)
        print(heading())
        for outcome in run_all(project, scenarios):
            print(row(outcome), flush=True)
            good &= outcome.good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
