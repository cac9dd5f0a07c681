from __future__ import annotations

import pytest
import torch
from torch import Tensor

from farm.errors import PipelineLoadFailed
from farm.model.quanto import PlainTensors

NAME = "blocks.0.self_attn.q"


def rounded(dtype: torch.dtype, weight: Tensor, *, largest: float) -> dict[str, Tensor]:
    """A linear as optimum-quanto stores it: one scale a row, a bias, activations left alone."""
    scale = weight.abs().amax(1, keepdim=True) / largest
    data = weight / scale
    return {
        f"{NAME}.weight._data": (data.round() if dtype == torch.int8 else data).to(dtype),
        f"{NAME}.weight._scale": scale.bfloat16(),
        f"{NAME}.bias": torch.ones(8),
        f"{NAME}.input_scale": torch.ones(()),
        f"{NAME}.output_scale": torch.ones(()),
    }


@pytest.mark.parametrize(("dtype", "largest", "bound"), [(torch.int8, 127, 0.01), (torch.float8_e4m3fn, 448, 0.04)])
def test_a_rounded_weight_comes_back_under_its_own_name(dtype: torch.dtype, largest: float, bound: float) -> None:
    weight = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    plain = PlainTensors({**rounded(dtype, weight, largest=largest), "head.modulation": weight})
    assert sorted(plain) == [f"{NAME}.bias", f"{NAME}.weight", "head.modulation"]
    assert len(plain) == 3
    assert plain["head.modulation"] is weight
    error = (plain[f"{NAME}.weight"] - weight).norm() / weight.norm()
    assert 0 < error < bound


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({f"{NAME}.weight._shift": torch.ones(1)}, r"weight\._shift: weights in fewer than eight bits"),
        ({f"{NAME}.weight._scale": None}, r"weight\._data lacks its scale"),
        ({f"{NAME}.input_scale": torch.tensor(0.5)}, r"input_scale is 0\.5: its activations were rounded too"),
        ({f"{NAME}.weight._data": torch.ones(8, 16, dtype=torch.uint8)}, r"weight\._data is torch\.uint8"),
    ],
)
def test_what_no_plain_weight_can_hold_is_refused_by_name(change: dict[str, Tensor | None], reason: str) -> None:
    tensors = {**rounded(torch.int8, torch.ones(8, 16), largest=127), **change}
    with pytest.raises(PipelineLoadFailed, match=reason):
        PlainTensors({name: each for name, each in tensors.items() if each is not None})[f"{NAME}.weight"]
