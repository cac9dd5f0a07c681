"""An S3 store, and a file that it uploads in parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.store import Store
from farm.store.s3 import PART_BYTES
from tests.support.seaweedfs import SeaweedFS
from tests.support.swift import Swift, opened

LARGE = 2 * PART_BYTES + 12_345
"""Bytes that are uploaded in three parts."""


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """The S3 service of compose.yaml."""
    service = SeaweedFS(tmp_path_factory.mktemp("seaweedfs"))
    yield service
    service.stop()


@pytest.fixture(scope="session", params=["swift", "seaweedfs"])
def swift(request: pytest.FixtureRequest, swift: Swift) -> Swift:
    """Each of the S3 services that the store is tested with."""
    if request.param == "swift":
        return swift
    return request.getfixturevalue("seaweedfs")  # type: ignore[no-any-return]


@pytest.fixture
def store(swift: Swift) -> Store:
    return opened(swift.settings())


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file whose parts all differ."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        for index in range(LARGE // 1000 + 1):
            file.write(b"%999d\n" % index)
        file.truncate(LARGE)
    return path
