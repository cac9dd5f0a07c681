from __future__ import annotations

import pytest
import torch
from torch import Tensor

from farm.model.guidance import Apg, Branch, Guidance, branches


def prediction(value: float) -> Tensor:
    return torch.full((16, 2, 2, 2), float(value))


def test_text_and_audio_guidance_take_three_passes() -> None:
    passes, scales = branches(5.0, 4.0)
    assert passes == (
        Branch(),
        Branch(prompt=False),
        Branch(prompt=False, audio=False),
    )
    # v = u + 5 (c - t) + 4 (t - u) with c, t, u = 3, 2, 10
    assert Guidance(scales)([prediction(3), prediction(2), prediction(10)]).unique().tolist() == [
        -17
    ]


def test_audio_guidance_alone_takes_two_passes_with_the_prompt_in_both() -> None:
    passes, scales = branches(1.0, 2.0)
    assert passes == (Branch(), Branch(audio=False))
    assert Guidance(scales)([prediction(3), prediction(2)]).unique().tolist() == [
        4
    ]  # a + 2 (c - a)


def test_no_guidance_takes_one_pass() -> None:
    passes, scales = branches(1.0, 1.0)
    assert passes == (Branch(),)
    assert Guidance(scales)([prediction(3)]).unique().tolist() == [3]


def test_apg_drops_what_is_parallel_to_the_full_prediction() -> None:
    guided = Guidance((5.0, 4.0), Apg())([prediction(3), prediction(2), prediction(10)])
    torch.testing.assert_close(guided, prediction(3))


def test_apg_bounds_the_norm_of_a_difference() -> None:
    # given a difference of norm 10, at right angles to c
    c = torch.zeros(16, 1, 1, 1)
    across = torch.zeros(16, 1, 1, 1)
    c[0] = 1
    across[1] = 10
    guided = Guidance((3.0,), Apg(norm_threshold=4.0))([c, c - across])
    assert guided[1].item() == pytest.approx((3 - 1) * 4)


def test_apgs_momentum_keeps_the_unclipped_past() -> None:
    c = torch.zeros(16, 1, 1, 1)
    across = torch.zeros(16, 1, 1, 1)
    c[0] = 1
    across[1] = 10
    guidance = Guidance((2.0,), Apg(momentum=-0.75, norm_threshold=4.0))
    guidance([c, c - across])
    # 10 - 0.75 x 10 is below the bound; with the clipped past it would be 7
    assert guidance([c, c - across])[1].item() == pytest.approx(2.5)
