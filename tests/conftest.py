"""What all tests may use: a real broker, a face and a voice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from farm.embedded.broker import Broker
from farm.settings import Settings
from tests.swift import Swift

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="session")
def running_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(Settings(home=tmp_path_factory.mktemp("broker")))
    yield broker
    broker.stop()


@pytest.fixture
def broker(running_broker: Broker) -> str:
    """The URL of a real broker that holds nothing yet."""
    with redis.Redis.from_url(running_broker.url) as client:
        client.flushall()
    return running_broker.url


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    """A real S3 service."""
    service = Swift(tmp_path_factory.mktemp("swift"))
    yield service
    service.stop()


@pytest.fixture(scope="session")
def portrait() -> Path:
    return EXAMPLES / "portrait.png"


@pytest.fixture(scope="session")
def voice() -> Path:
    return EXAMPLES / "speech.wav"
