"""The short form of some scenarios; `make chaos` runs all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import run, undisturbed_digest
from tests.chaos.scenarios import SCENARIOS


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chaos")


@pytest.fixture(scope="module")
def expected(home: Path) -> str:
    return undisturbed_digest(home)


@pytest.mark.parametrize(
    "name", ["kills", "commit", "broker", "paused", "writes", "clock", "delivery", "webhook"]
)
def test_every_job_ends_as_if_nothing_had_happened(name: str, home: Path, expected: str) -> None:
    scenario = SCENARIOS[name]

    outcome = run(scenario, home / name, expected, long=False)

    assert outcome.good, outcome
    assert outcome.finished == scenario.jobs[0]
