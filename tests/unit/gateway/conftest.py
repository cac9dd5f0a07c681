"""A gateway before a farm without workers: jobs stay queued until a test advances them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.client import Farm
from farm.settings import Settings
from tests.support.gateway import Client, running_gateway

Key = Callable[..., Client]


@pytest.fixture
def farm(broker: str, tmp_path: Path) -> Farm:
    """Its store is no folder, whose URLs Runpod's calls could not give to the holder of a key."""
    home = tmp_path / "home"
    settings = Settings(home=home, broker_url=broker, store_url="memory://")
    return Farm(settings=settings, local_files=False)


@pytest.fixture
def client(farm: Farm) -> Iterator[Client]:
    """A client without a key, as long as there are none."""
    with running_gateway(farm) as client:
        yield client


@pytest.fixture
def key(farm: Farm, client: Client) -> Key:
    """Creates a key for a caller, and returns its client."""

    def create(caller: str, **allowed: Any) -> Client:
        secret, _ = farm.context.registry.keys.create(caller, **allowed)
        return Client(client.url, secret)

    return create
