"""The short form of some scenarios; `make chaos` runs all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import reference, run
from tests.chaos.scenarios import SCENARIOS

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chaos")


@pytest.fixture(scope="module")
def expected(home: Path) -> str:
    return reference(home)


@pytest.mark.parametrize("name", ["kills", "made", "broker", "paused", "writes", "clock", "hand", "hook"])
def test_every_job_ends_as_if_nothing_had_happened(name: str, home: Path, expected: str) -> None:
    scenario = SCENARIOS[name]

    tally = run(scenario, home / name, expected, long=False)

    assert tally.good, tally
    assert tally.finished == scenario.jobs[0]
