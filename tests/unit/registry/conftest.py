"""A registry in memory and one in a real broker: one body of tests over both."""

from __future__ import annotations

import pytest

from farm.registry import Registry, open_registry
from tests.support.jobs import REQUEST


@pytest.fixture(params=["memory", "broker"])
def registry(request: pytest.FixtureRequest) -> Registry:
    url = "memory://" if request.param == "memory" else request.getfixturevalue("broker")
    return open_registry(url)


@pytest.fixture
def entered(registry: Registry) -> Registry:
    """A registry with the job `a`."""
    registry.entries.add("a", REQUEST)
    return registry
