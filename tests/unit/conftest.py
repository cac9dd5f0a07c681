"""Fixtures for unit tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from farm.media import sandbox
from tests.support.api_server import ApiServer, api_server

Decode = Callable[..., Any]


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """An HTTP API with scripted answers."""
    with api_server() as running:
        yield running


@pytest.fixture(autouse=True, scope="module")
def _decode_in_this_process() -> Iterator[None]:
    """Spares steps the half second of a child; test_sandbox.py and whole farms start children."""

    def unlimited(function: Decode, **_: Any) -> Decode:
        return function

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "sandboxed", unlimited)
        yield
