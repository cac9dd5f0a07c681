"""Fixtures for all tests: a real broker, a real S3 service, a real farm, a face and a voice."""

from __future__ import annotations

import os

# One thread per process: the threads of several processes that share two cores spin while they wait
# for each other, and a film that takes 1.6 s takes 52 s beside three other processes. Torch reads
# this when it is first imported, and every process that a test starts inherits it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

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
from tests.support.certificate import write_certificate
from tests.support.rabbitmq import RabbitMQ
from tests.support.receiver import Receiver, receiver
from tests.support.swift import Swift

TESTS = Path(__file__).parent
EXAMPLES = TESTS.parent / "examples"

SLOW_TIMEOUT_S = 900
"""A test waits for events, never for seconds; this only ends a run that would hang for ever."""

SLOW = (
    "attacks",
    "chaos",
    "containers",
    "integration",
    "lipsync",
    "unit/engine/test_damage.py",
    "unit/engine/test_whole_job.py",
    "unit/maintenance/test_whole_recovery.py",
    "unit/miniature",
    "unit/model",
    "unit/steps/test_generate.py",
    "unit/test_docs_programs.py",
    "unit/steps/test_segments.py",
    "unit/steps/test_two_speakers.py",
    "unit/runpod/test_chunk.py",
    "unit/steps/test_weights.py",
)
"""Folders and files of tests that start a whole farm, run the model, or decode to a time limit."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks slow tests, and gives each of them more time.

    pytest also passes the items of other folders than this one.
    """
    slow = [TESTS / path for path in SLOW]
    for item in items:
        if any(item.path.is_relative_to(path) for path in slow):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_S))


@pytest.fixture(scope="session", autouse=True)
def _temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Gives each of several test processes a temporary folder."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        tempfile.tempdir = str(tmp_path_factory.mktemp("temporary"))
        os.environ["TMPDIR"] = tempfile.tempdir


@pytest.fixture(scope="session")
def running_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(Settings(home=tmp_path_factory.mktemp("broker")))
    yield broker
    broker.stop()


@pytest.fixture
def broker(running_broker: Broker) -> str:
    """The URL of a real broker that is empty."""
    with redis.Redis.from_url(running_broker.url) as client:
        client.flushall()
    return running_broker.url


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A real RabbitMQ."""
    server = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    yield server
    server.stop()


@pytest.fixture
def vhost(rabbitmq: RabbitMQ) -> str:
    """The URL of an empty virtual host of a real RabbitMQ."""
    return rabbitmq.new_vhost()


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    """A real S3 service."""
    service = Swift(tmp_path_factory.mktemp("swift"))
    yield service
    service.stop()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for services on the loopback."""
    return write_certificate(tmp_path_factory.mktemp("tls") / "certificate.pem")


@pytest.fixture
def hook(certificate: Path) -> Iterator[Receiver]:
    """A receiver of webhooks that accepts every call."""
    with receiver(certificate) as listening:
        yield listening


@pytest.fixture(params=["memory", "local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    if request.param == "s3":
        settings = request.getfixturevalue("swift").settings()
        return open_store(settings.store_address, settings)
    if request.param == "memory":
        return open_store("memory://")
    return open_store((tmp_path / "store").as_uri())


@pytest.fixture(scope="session")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """A running farm: a broker process, two worker processes, the miniature on the CPU."""
    settings = Settings(
        home=tmp_path_factory.mktemp("home"),
        presets="miniature,miniature-flashtalk",
        cpu_concurrency=1,
        lease_s=3,
        reap_every_s=1,
    )
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
