"""The `farm` command, run in the process of the test."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from farm.cli import cli
from farm.client import Farm
from farm.settings import Settings
from tests.support.cli import Run


@pytest.fixture
def farm(broker: str, tmp_path: Path) -> Farm:
    """The farm that the commands talk to; it has no workers."""
    return Farm(settings=Settings(home=tmp_path / "home", broker_url=broker))


@pytest.fixture
def run(farm: Farm) -> Run:
    settings = farm.context.settings
    environ = {
        "FARM_HOME": str(settings.home),
        "FARM_BROKER_URL": settings.broker_url,
        "COLUMNS": "200",
    }

    def call(*args: str, stdin: str | bytes | None = None, **variables: str) -> Result:
        return CliRunner().invoke(cli, args, input=stdin, env={**environ, **variables})

    return call
