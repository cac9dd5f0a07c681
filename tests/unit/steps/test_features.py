"""The rows of a recording in the store: made once, in pieces, of which nobody reads more than he needs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from farm.engine.context import Context
from farm.route import Step
from farm.engine.step_context import WorkerDraining, StepContext
from farm.job import JobRequest
from farm.model.audio import SPAN_ROWS
from farm.registry import Lease, open_registry
from farm.settings import Settings
from farm.steps.features import ROWS_PER_OBJECT, cache_rows, rows_of
from farm.store import Store
from farm.store.memory import MemoryStore

ROWS = torch.arange(4 * ROWS_PER_OBJECT + 30.0).view(-1, 1, 1).expand(-1, 2, 3)
"""A recording of four pieces and a bit, each row holding its own number."""

STRETCHES = [range(2 * ROWS_PER_OBJECT), range(2 * ROWS_PER_OBJECT, 4 * ROWS_PER_OBJECT), range(4 * ROWS_PER_OBJECT, len(ROWS))]


class Noting(MemoryStore):
    """A store that notes what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    def get(self, key: str) -> bytes:
        self.read.append(key)
        return super().get(key)


class Harness:
    """A place where recordings are encoded; `made` are the stretches that were."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.context = Context(Settings(home=folder), store, open_registry("memory://"))
        self.folder = folder
        self.made: list[range] = []
        (folder / "weights").write_bytes(b"an encoder")

    def lay(self, job_id: str = "one", content: bytes = b"a voice", leaving: Callable[[], bool] = bool) -> str:
        return cache_rows(
            self.step_ctx(job_id, leaving), "voice", self.folder, content, stretches=STRETCHES, make=self.encoded
        )

    def encoded(self, stretch: range) -> torch.Tensor:
        self.made.append(stretch)
        return ROWS[stretch.start : stretch.stop]

    def step_ctx(self, job_id: str = "one", leaving: Callable[[], bool] = bool) -> StepContext:
        request = JobRequest.parse({"prompt": "x", "cond_video": "y", "cond_audio": {"person1": "z"}})
        lease = Lease(job_id, "embed", 1, 1)
        return StepContext(
            self.context.settings,
            self.context.store,
            self.context.registry,
            Step("embed"),
            lease,
            request,
            self.folder,
            threading.Event(),
            leaving,
        )


@pytest.fixture
def harness(store: Store, tmp_path: Path) -> Harness:
    (tmp_path / "harness").mkdir()
    return Harness(store, tmp_path / "harness")


def test_every_row_is_found_again_across_pieces(harness: Harness) -> None:
    folder = harness.lay()
    assert torch.equal(rows_of(harness.step_ctx(), folder, range(len(ROWS))), ROWS)


def test_rows_come_in_the_order_in_which_they_are_asked_for(harness: Harness) -> None:
    wanted = [0, 0, ROWS_PER_OBJECT - 1, ROWS_PER_OBJECT, ROWS_PER_OBJECT + 1, ROWS_PER_OBJECT, ROWS_PER_OBJECT - 1]
    assert rows_of(harness.step_ctx(), harness.lay(), wanted)[:, 0, 0].tolist() == wanted


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
def test_no_more_is_read_than_the_pieces_with_those_rows(tmp_path: Path, rows: list[int], pieces: list[int]) -> None:
    store = Noting()
    harness = Harness(store, tmp_path)
    folder = harness.lay()
    rows_of(harness.step_ctx(), folder, rows)
    assert store.read == [f"{folder}/{piece:05d}" for piece in pieces]


def test_a_piece_holds_its_own_rows_and_no_more(harness: Harness) -> None:
    folder = harness.lay()
    sizes = [harness.context.store.size(key) or 0 for key in harness.context.store.keys(f"{folder}/")]
    assert len(sizes) == 5
    assert max(sizes) < 4 * ROWS[:ROWS_PER_OBJECT].numel() + 200


def test_no_piece_belongs_to_two_stretches() -> None:
    assert SPAN_ROWS % ROWS_PER_OBJECT == 0


def test_jobs_with_one_voice_encode_it_once(harness: Harness) -> None:
    assert harness.lay("one") == harness.lay("two")
    assert harness.made == STRETCHES


def test_another_voice_has_rows_of_its_own(harness: Harness) -> None:
    assert harness.lay() != harness.lay(content=b"another voice")
    assert harness.made == 2 * STRETCHES


@pytest.mark.parametrize("lost", [0, 3, 4])
def test_a_set_with_a_piece_missing_is_completed(harness: Harness, lost: int) -> None:
    # Given what a killed worker leaves
    folder = harness.lay()
    harness.context.store.delete(f"{folder}/{lost:05d}")
    harness.made.clear()
    # When the next one comes, then it makes that stretch alone
    harness.lay()
    assert harness.made == [STRETCHES[lost // 2]]
    assert torch.equal(rows_of(harness.step_ctx(), folder, range(len(ROWS))), ROWS)


def test_a_worker_that_is_asked_to_go_keeps_what_it_has_made(harness: Harness) -> None:
    with pytest.raises(WorkerDraining):
        harness.lay(leaving=lambda: len(harness.made) == 2)
    harness.lay()
    assert harness.made == STRETCHES
