"""Which step comes after which."""

from __future__ import annotations

import pytest

from farm.route import FIRST, NOTIFY, Step, next_step


def way(chunks: int) -> list[str]:
    step: Step | None = FIRST
    step_ids = []
    while step is not None:
        step_ids.append(step.id)
        step = next_step(step, chunks=chunks)
    return step_ids


def test_a_clip_goes_through_four_stations():
    assert way(1) == ["download", "embed", "generate-0000", "mux"]


def test_a_longer_video_is_generated_chunk_by_chunk():
    assert way(3) == ["download", "embed", "generate-0000", "generate-0001", "generate-0002", "mux"]


@pytest.mark.parametrize(
    "step",
    [FIRST, Step("embed"), Step("generate"), Step("generate", 7), Step("generate", 31_249), Step("mux"), NOTIFY],
    ids=str,
)
def test_a_step_is_known_by_its_product(step):
    assert Step.parse(step.id) == step
