"""Objects that are stored while their step goes on."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from farm.engine.context import Context
from farm.engine.step_context import StepContext
from farm.errors import UploadFailed
from farm.registry import open_registry
from farm.route import Step
from farm.settings import Settings
from farm.steps.uploads import Uploads
from farm.store.memory import MemoryStore
from tests.support.steps import step_context


class HeldStore(MemoryStore):
    """Stores nothing until it is let go, and then fails if it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()
        self.fails = False

    def put(self, key: str, source: Path | bytes) -> None:
        assert self.let_go.wait(timeout=60)
        if self.fails:
            raise UploadFailed("the disk is full")
        super().put(key, source)


@pytest.fixture
def store() -> HeldStore:
    return HeldStore()


@pytest.fixture
def ctx(store: HeldStore, tmp_path: Path) -> StepContext:
    ctx = Context(Settings(home=tmp_path), store, open_registry("memory://"))
    return step_context(ctx, Step("generate", 0), scratch=tmp_path)


def test_a_step_goes_on_while_an_object_is_stored_and_ends_once_it_is(
    ctx: StepContext, store: HeldStore
) -> None:
    with Uploads(ctx) as uploads:
        key = uploads.put(lambda: b"a tail", "tail")
        assert store.size(key) is None
        store.let_go.set()
    assert store.get(key) == b"a tail"
    assert ctx.get(key) == b"a tail"  # its digest is that of the attempt's output


def test_what_cannot_be_stored_fails_the_step(ctx: StepContext, store: HeldStore) -> None:
    store.fails = True
    store.let_go.set()
    with pytest.raises(UploadFailed, match="the disk is full"), Uploads(ctx) as uploads:
        uploads.put(lambda: b"a tail", "tail")


def test_the_error_of_the_step_is_the_one_that_is_raised(
    ctx: StepContext, store: HeldStore
) -> None:
    store.fails = True
    store.let_go.set()

    def fail() -> None:
        with Uploads(ctx) as uploads:
            uploads.put(lambda: b"a tail", "tail")
            raise ValueError("the model failed")

    with pytest.raises(ValueError, match="the model failed"):
        fail()
