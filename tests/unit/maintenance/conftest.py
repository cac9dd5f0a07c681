"""A context without a broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.engine.context import Context
from farm.registry import open_registry
from farm.settings import Settings
from farm.store import Store
from tests.support.recovery import enter


@pytest.fixture
def ctx(store: Store, tmp_path: Path) -> Context:
    return Context(Settings(home=tmp_path), store, open_registry("memory://"))


@pytest.fixture
def entered(ctx: Context) -> Context:
    """The context of the job `a`."""
    enter(ctx, "a")
    return ctx
