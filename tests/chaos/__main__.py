"""Breaks a farm in every known way, and counts.

python -m tests.chaos [--long] [--s3] [--rabbitmq] [SCENARIO ...]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path

from tests.chaos.outcome import Outcome
from tests.chaos.run import run, undisturbed_digest
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.testbed import Services
from tests.support.rabbitmq import RabbitMQ
from tests.support.swift import Swift

COLUMNS = [each.name for each in fields(Outcome)][1:]
TITLE_WIDTH = 56


@contextmanager
def object_store(folder: Path, *, s3: bool) -> Iterator[Swift | None]:
    """An S3 service until the block ends, if one is wanted."""
    service = Swift(folder / "swift") if s3 else None
    try:
        yield service
    finally:
        if service:
            service.stop()


@contextmanager
def message_broker(folder: Path, *, rabbitmq: bool) -> Iterator[RabbitMQ | None]:
    """A RabbitMQ until the block ends, if one is wanted."""
    server = RabbitMQ(folder / "rabbitmq") if rabbitmq else None
    try:
        yield server
    finally:
        if server:
            server.stop()


def parse_options() -> argparse.Namespace:
    names = ", ".join(SCENARIOS)
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--long", action="store_true", help="more jobs and more faults")
    parser.add_argument(
        "--s3", action="store_true", help="keep objects in an S3 service instead of a folder"
    )
    parser.add_argument(
        "--rabbitmq", action="store_true", help="send messages by RabbitMQ instead of Redis"
    )
    parser.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help=f"any of {names}; by default all"
    )
    options = parser.parse_args()
    unknown = sorted(set(options.scenarios) - SCENARIOS.keys())
    if unknown:
        parser.error(f"SCENARIO: got {', '.join(unknown)}; allowed: {names}")
    return options


def main() -> int:
    options = parse_options()
    all_good = True
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        scratch = Path(name)
        with (
            object_store(scratch, s3=options.s3) as service,
            message_broker(scratch, rabbitmq=options.rabbitmq) as rabbitmq,
        ):
            services = Services(service, rabbitmq)
            expected = undisturbed_digest(scratch)
            headings = (column.replace("_", " ") for column in COLUMNS)
            print(" " * TITLE_WIDTH, *(f"{heading:>15}" for heading in headings))
            for name in options.scenarios or possible(services):
                outcome = run(
                    SCENARIOS[name], scratch / name, expected, long=options.long, services=services
                )
                all_good &= outcome.good
                print(row(outcome), flush=True)
    return 0 if all_good else 1


def possible(services: Services) -> list[str]:
    """The scenarios that these services have."""
    broker = "rabbitmq" if services.rabbitmq else "redis"
    return [name for name, each in SCENARIOS.items() if each.only_on in (None, broker)]


def row(outcome: Outcome) -> str:
    values = asdict(outcome)
    figures = " ".join(f"{values[column]:15.4g}" for column in COLUMNS)
    return f"{outcome.scenario:{TITLE_WIDTH}} {figures}"


if __name__ == "__main__":
    sys.exit(main())
