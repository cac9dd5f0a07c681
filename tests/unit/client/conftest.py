"""A farm without workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.client import Farm
from farm.settings import Settings


@pytest.fixture
def farm(broker: str, tmp_path: Path) -> Farm:
    """A farm without workers: messages stay in their queue."""
    return Farm(broker, settings=Settings(home=tmp_path / "home"))
