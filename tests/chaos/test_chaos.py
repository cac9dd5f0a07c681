"""The short form of some scenarios; `make chaos` runs all of them, with both brokers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import run, undisturbed_digest
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.testbed import Services
from tests.support.rabbitmq import RabbitMQ


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


@pytest.mark.parametrize("name", ["broker", "connections"])
def test_every_job_ends_as_if_nothing_had_happened_on_rabbitmq(
    name: str, home: Path, expected: str, rabbitmq: RabbitMQ
) -> None:
    services = Services(rabbitmq=rabbitmq)

    outcome = run(
        SCENARIOS[name], home / f"{name}-rabbitmq", expected, long=False, services=services
    )

    assert outcome.good, outcome
    assert outcome.finished == SCENARIOS[name].jobs[0]
