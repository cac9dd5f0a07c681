"""What all tests may use: a real broker, a real farm, a face and a voice."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from farm import Farm
from farm.local.broker import Broker
from farm.local.supervisor import Supervisor, open_supervisor
from farm.settings import Settings
from farm.store import Store, open_store
from tests.support.certificate import self_signed
from tests.support.receiver import Receiver, receiver
from tests.support.swift import Swift

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="session", autouse=True)
def _apart(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of several who test at the same time, each has a temporary folder of its own, and one processor for torch."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ["TMPDIR"] = tempfile.tempdir = str(tmp_path_factory.mktemp("temporary"))
        os.environ["OMP_NUM_THREADS"] = "1"


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
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for services on the loopback."""
    return self_signed(tmp_path_factory.mktemp("tls") / "certificate.pem")


@pytest.fixture
def hook(certificate: Path) -> Iterator[Receiver]:
    """A receiver of webhooks that takes everything."""
    with receiver(certificate) as listening:
        yield listening


@pytest.fixture(params=["memory", "local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store of each make that holds nothing yet."""
    if request.param == "s3":
        settings = request.getfixturevalue("swift").settings()
        return open_store(settings.store_address, settings)
    return open_store("memory://" if request.param == "memory" else (tmp_path / "goods").as_uri())


@pytest.fixture(scope="session")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """A farm that is up: a broker process, two worker processes, the miniature on the CPU."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), lease_s=3, reap_every_s=1)
    with open_supervisor(settings) as supervisor:
        yield supervisor


@pytest.fixture(scope="session")
def farm(supervisor: Supervisor) -> Farm:
    return Farm(settings=supervisor.settings)


@pytest.fixture(scope="session")
def portrait() -> Path:
    return EXAMPLES / "portrait.png"


@pytest.fixture(scope="session")
def voice() -> Path:
    return EXAMPLES / "speech.wav"
