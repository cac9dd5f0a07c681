"""The embeddings of a recording: computed once, stored in pieces, of which only some are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from farm.engine.context import Context
from farm.engine.step_context import StepContext, WorkerDraining, never_draining
from farm.model.audio import SPAN_ROWS
from farm.registry import Registry, open_registry
from farm.route import Step
from farm.settings import Settings
from farm.steps.chunk_objects import ROWS_PER_OBJECT
from farm.steps.features import cache_features, cache_rows, rows_of
from farm.store import Store
from farm.store.memory import MemoryStore
from tests.support.backends import ClockBackend
from tests.support.steps import step_context

ROWS = torch.arange(4 * ROWS_PER_OBJECT + 30.0).view(-1, 1, 1).expand(-1, 2, 3)
"""A recording of four pieces and a bit, each row holding its own number."""

BOUNDS = (0, 2 * ROWS_PER_OBJECT, 4 * ROWS_PER_OBJECT, len(ROWS))
SPANS = [range(begin, end) for begin, end in pairwise(BOUNDS)]


class NotingStore(MemoryStore):
    """A store that notes what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    def get(self, key: str) -> bytes:
        self.read.append(key)
        return super().get(key)


class Harness:
    """A context in which recordings are encoded; `encoded` are the spans that were."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.ctx = Context(Settings(home=folder), store, open_registry("memory://"))
        self.folder = folder
        self.encoded: list[range] = []

    def step_context(
        self, job_id: str = "one", draining: Callable[[], bool] = never_draining
    ) -> StepContext:
        step = Step("embed")
        return step_context(self.ctx, step, job_id=job_id, scratch=self.folder, draining=draining)

    def cache(
        self,
        job_id: str = "one",
        content: bytes = b"a voice",
        encoder: str = "0123",
        draining: Callable[[], bool] = never_draining,
    ) -> str:
        """The prefix of the recording's keys, whose rows are encoded unless they are stored."""
        ctx = self.step_context(job_id, draining)
        return cache_rows(ctx, "voice", encoder, content, spans=SPANS, make=self.encode)

    def encode(self, span: range) -> torch.Tensor:
        self.encoded.append(span)
        return ROWS[span.start : span.stop]

    def rows(self, prefix: str, rows: list[int] | range) -> torch.Tensor:
        return rows_of(self.step_context(), prefix, rows)


@pytest.fixture
def harness(store: Store, tmp_path: Path) -> Harness:
    (tmp_path / "harness").mkdir()
    return Harness(store, tmp_path / "harness")


# Reading


def test_every_row_is_found_again_across_pieces(harness: Harness) -> None:
    assert torch.equal(harness.rows(harness.cache(), range(len(ROWS))), ROWS)


def test_rows_are_returned_in_the_order_in_which_they_are_asked_for(harness: Harness) -> None:
    border = ROWS_PER_OBJECT
    wanted = [0, 0, border - 1, border, border + 1, border, border - 1]
    assert harness.rows(harness.cache(), wanted)[:, 0, 0].tolist() == wanted


@pytest.mark.parametrize(
    ("rows", "pieces"),
    [
        (range(10, 95), [0]),
        (range(ROWS_PER_OBJECT), [0]),
        (range(ROWS_PER_OBJECT - 1, ROWS_PER_OBJECT + 1), [0, 1]),
        (range(2 * ROWS_PER_OBJECT, 2 * ROWS_PER_OBJECT + 85), [2]),
        ([len(ROWS) - 1, len(ROWS) - 1], [4]),
    ],
)
def test_only_the_pieces_that_hold_the_rows_are_read(
    tmp_path: Path, rows: list[int], pieces: list[int]
) -> None:
    store = NotingStore()
    harness = Harness(store, tmp_path)
    prefix = harness.cache()
    store.read.clear()
    harness.rows(prefix, rows)
    assert store.read == [f"{prefix}/{piece:05d}" for piece in pieces]


def test_a_piece_holds_its_own_rows_alone(harness: Harness) -> None:
    store = harness.ctx.store
    sizes = [store.size(key) or 0 for key in store.keys(f"{harness.cache()}/")]
    assert len(sizes) == 5
    assert max(sizes) < 4 * ROWS[:ROWS_PER_OBJECT].numel() + 200


# Encoding


def test_a_span_is_a_whole_number_of_pieces() -> None:
    assert SPAN_ROWS % ROWS_PER_OBJECT == 0


def test_jobs_with_the_same_voice_encode_it_once(harness: Harness) -> None:
    assert harness.cache("one") == harness.cache("two")
    assert harness.encoded == SPANS


def test_another_voice_has_its_own_rows(harness: Harness) -> None:
    assert harness.cache() != harness.cache(content=b"another voice")
    assert harness.encoded == 2 * SPANS


@pytest.mark.parametrize("lost", [0, 3, 4])
@pytest.mark.parametrize("damage", [None, b"half of i"])
def test_a_missing_or_damaged_piece_is_encoded_again_with_its_span_alone(
    harness: Harness, lost: int, damage: bytes | None
) -> None:
    # Given what a killed worker or a broken disk leaves
    prefix = harness.cache()
    harness.ctx.store.delete(f"{prefix}/{lost:05d}")
    if damage:
        harness.ctx.store.put(f"{prefix}/{lost:05d}", damage)
    harness.encoded.clear()
    # When another worker comes
    harness.cache()
    # Then it encodes that span, and all rows are there
    assert harness.encoded == [SPANS[lost // 2]]
    assert torch.equal(harness.rows(prefix, range(len(ROWS))), ROWS)


def test_a_drained_worker_leaves_the_spans_that_it_has_encoded(harness: Harness) -> None:
    with pytest.raises(WorkerDraining):
        harness.cache(draining=lambda: len(harness.encoded) == 2)
    harness.cache()
    assert harness.encoded == SPANS


def test_another_encoder_encodes_a_voice_again(harness: Harness) -> None:
    assert harness.cache() != harness.cache(encoder="4567")
    assert harness.encoded == 2 * SPANS


# Texts


def test_a_prompt_is_encoded_once_for_each_encoder(harness: Harness) -> None:
    encoded: list[str] = []

    def cache(prompt: str, encoder: str) -> float:
        def encode() -> torch.Tensor:
            encoded.append(prompt)
            return torch.full((2, 3), len(encoded))

        features = cache_features(harness.step_context(), "text", encoder, prompt, encode)
        return float(features.unique())

    first = cache("a man talks", "0123")
    assert cache("a man talks", "0123") == first
    assert len({first, cache("a man sings", "0123"), cache("a man talks", "4567")}) == 3
    assert encoded == ["a man talks", "a man sings", "a man talks"]


def test_features_of_which_half_the_time_is_over_are_stored_anew(harness: Harness) -> None:
    clock = ClockBackend()
    harness.ctx = replace(harness.ctx, registry=Registry(clock))
    half_s = Settings().keep_shared_s / 2
    harness.cache()
    clock.advance(half_s - 60)
    harness.cache("two")
    assert harness.encoded == SPANS
    clock.advance(120)
    harness.cache("three")
    assert harness.encoded == SPANS * 2
