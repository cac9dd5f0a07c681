"""An S3 store, and a file that it uploads in parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.store import Store
from farm.store.s3 import PART_BYTES
from tests.support.swift import Swift, opened

LARGE = 2 * PART_BYTES + 12_345
"""Bytes that are uploaded in three parts."""


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
