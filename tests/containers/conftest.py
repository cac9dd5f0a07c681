"""An engine with the images of CI, and a running farm: once for all tests here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.containers.engine import Engine, open_engine
from tests.containers.images import builder, make_valkey
from tests.containers.project import Project, open_project


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine with the images light, cpu and s3, and with stand-ins of what they need."""
    with open_engine() as engine, builder(engine) as makes:
        for target in ("light", "cpu"):
            makes.build_target(target)
        makes.build_s3()
        make_valkey(makes)
        yield engine


@pytest.fixture(scope="module")
def project(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with open_project(engine, tmp_path_factory.mktemp("project")) as project:
        yield project
