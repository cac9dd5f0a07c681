"""A farm without workers, whose messages wait in a broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.client import Farm
from farm.registry import Registry
from farm.settings import Settings


@pytest.fixture
def farm(broker: str, tmp_path: Path) -> Farm:
    return Farm(settings=Settings(home=tmp_path, broker_url=broker))


@pytest.fixture
def registry(farm: Farm) -> Registry:
    return farm.context.registry
