from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from farm.errors import InvalidInput
from farm.model.fused import norm_rope
from farm.model.speakers import (
    BACKGROUND,
    on_tokens,
    positions,
    regions,
    speaker_angles,
    voice_positions,
)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def grid(masks: Tensor, width: int) -> list[list[int]]:
    """Who has each token, 0, 1 or 2 for the background."""
    return masks.argmax(0).unflatten(0, (-1, width)).tolist()


def test_without_boxes_the_speakers_have_the_two_halves_less_a_margin() -> None:
    masks = regions((320, 640), (320, 640))
    rows = grid(masks, 40)
    assert rows[0] == [2] * 40  # 16 rows of margin are one row of tokens
    assert rows[10] == [2] + [0] * 18 + [2] * 2 + [1] * 18 + [2]
    assert (masks.sum(0) == 1).all()


def test_boxes_say_rows_and_columns_without_their_far_ends() -> None:
    masks = regions((64, 64), (64, 64), [(0, 0, 16, 32), (32, 48, 64, 64)])
    assert grid(masks, 4) == [
        [0, 0, 2, 2],
        [2, 2, 2, 2],
        [2, 2, 2, 1],
        [2, 2, 2, 1],
    ]


def test_boxes_are_cut_with_the_picture() -> None:
    # given a picture twice as wide as the video: its outer quarters are cut off
    masks = regions((64, 128), (64, 64), [(0, 32, 64, 64), (0, 64, 64, 96)])
    assert grid(masks, 4) == [[0, 0, 1, 1]] * 4


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([(0, 0, 8, 8)], "boxes: got 1; allowed: two"),
        (
            [(0, 0, 8, 8), (0, 8, 8, 65)],
            r"columns 8\.\.65; allowed: inside the image of 64 rows and 64 columns",
        ),
        ([(0, 0, 8, 8), (9, 8, 9, 16)], "rows 9..9"),
    ],
)
def test_impossible_boxes_are_refused(boxes: list[tuple[int, int, int, int]], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        regions((64, 64), (64, 64), boxes)


def test_a_token_belongs_to_the_speaker_that_it_attends_to() -> None:
    # given four tokens each of which attends to itself alone
    tokens = 30 * torch.eye(4)[None, :, None]
    who = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]])
    # then the first stands at person 1's far end, the second at person 2's, the others nowhere
    assert positions(tokens, tokens, who[None])[0].tolist() == pytest.approx(
        [4, 24, BACKGROUND, BACKGROUND]
    )


def test_positions_equal_those_of_the_written_out_definition() -> None:
    query = drawn(1, 1, 24, 3, 8)
    key = drawn(2, 1, 6, 3, 8)
    who = torch.tensor([[1.0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]])
    attention = torch.einsum("bqhd,bkhd->bhqk", query, key).div(8**0.5).softmax(-1)
    share = torch.stack([(attention * mask).sum(-1).mean(1) / mask.sum() for mask in who], -1)[0]
    line = 4 * (share - share.amin(0)) / (share.amax(0) - share.amin(0) + 1e-8)
    expected = [
        (each[0], 20 + each[1], torch.tensor(BACKGROUND))[int(s.argmax())]
        for each, s in zip(line, share, strict=True)
    ]
    torch.testing.assert_close(
        positions(query, key, who[None])[0], torch.stack(expected), rtol=0, atol=1e-4
    )


def test_a_speaker_outside_the_picture_leaves_finite_numbers() -> None:
    who = torch.zeros(1, 3, 6)
    who[:, 2] = 1
    assert positions(drawn(1, 1, 24, 3, 8), drawn(2, 1, 6, 3, 8), who).isfinite().all()


def test_rope_keeps_lengths_and_only_distance_counts() -> None:
    query = drawn(1, 1, 1, 16)
    key = drawn(2, 1, 1, 16)

    def rotated(tokens: Tensor, position: float) -> Tensor:
        return norm_rope(tokens, *speaker_angles(torch.tensor([[position]]), 8))

    def likeness(here: float, there: float) -> Tensor:
        return (rotated(query, here) * rotated(key, there)).sum(-1)

    torch.testing.assert_close(
        rotated(query, 7.0).unflatten(-1, (2, 8)).norm(dim=-1),
        query.unflatten(-1, (2, 8)).norm(dim=-1),
    )
    torch.testing.assert_close(likeness(2.0, 5.0), likeness(12.0, 15.0))
    assert not torch.allclose(likeness(2.0, 5.0), likeness(2.0, 22.0))


def test_the_first_half_of_the_audio_tokens_is_the_first_speakers() -> None:
    assert voice_positions(6, torch.device("cpu")).tolist() == [[2, 2, 2, 22, 22, 22]]


def test_a_token_counts_for_a_region_by_its_corner() -> None:
    masks = torch.zeros(3, 4, 4)
    masks[0, 0, 0] = 1
    masks[1, 1, 1] = 1
    assert on_tokens(masks).sum(1).tolist() == [1, 0, 0]


def test_exchanged_voices_give_another_video(
    make: Callable[..., tuple[Tensor, object]], voice: Tensor
) -> None:
    both = torch.cat([voice[:, :13], voice[:, 4:]])
    assert not torch.equal(make(0, audio=both)[0], make(0, audio=both.flip(0))[0])
