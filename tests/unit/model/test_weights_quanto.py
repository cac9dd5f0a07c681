from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from farm.errors import PipelineLoadFailed
from farm.model.weights.containers import open_tensors, open_weights
from farm.model.weights.convert import convert
from farm.model.weights.quanto import DequantisedFile
from farm.model.weights.sources import Source
from farm.model.weights.tensorfile import SafetensorsFile
from tests.support.tiny_model import TINY_PRESET
from tests.unit.model import official
from tests.unit.model.conftest import quiet

NAME = "blocks.0.self_attn.q"


def quanto(name: str, weight: Tensor, dtype: torch.dtype, *, largest: float) -> dict[str, Tensor]:
    """A linear's weight as optimum-quanto stores it: one scale per row, activations left alone."""
    scale = weight.abs().amax(1, keepdim=True) / largest
    data = weight / scale
    return {
        f"{name}.weight._data": (data.round() if dtype == torch.int8 else data).to(dtype),
        f"{name}.weight._scale": scale.bfloat16(),
        f"{name}.input_scale": torch.ones(()),
        f"{name}.output_scale": torch.ones(()),
    }


def stored(tmp_path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file(tensors, tmp_path / "quantised.safetensors")
    return tmp_path / "quantised.safetensors"


def test_a_file_without_quantised_weights_is_left_as_it_is(tmp_path: Path) -> None:
    file = open_weights(stored(tmp_path, {"head.weight": torch.ones(2, 2)}))
    assert isinstance(file, SafetensorsFile)


@pytest.mark.parametrize(
    ("dtype", "largest", "bound"),
    [(torch.int8, 127, 0.01), (torch.float8_e4m3fn, 448, 0.04)],
)
def test_a_quantised_weight_comes_back_under_its_own_name(
    tmp_path: Path, dtype: torch.dtype, largest: float, bound: float
) -> None:
    weight = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    tensors = {
        **quanto(NAME, weight, dtype, largest=largest),
        "head.modulation": weight,
    }
    file = open_weights(stored(tmp_path, tensors))
    assert {name: tuple(each.shape) for name, each in file.info.items()} == {
        "head.modulation": (8, 16),
        f"{NAME}.weight": (8, 16),
    }
    assert torch.equal(file.read("head.modulation"), weight)
    error = (file.read(f"{NAME}.weight") - weight).norm() / weight.norm()
    assert 0 < error < bound


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {f"{NAME}.weight._shift": torch.ones(1)},
            r"weight\._shift: weights in fewer than eight bits",
        ),
        ({f"{NAME}.weight._scale": None}, r"weight\._data lacks its scale"),
        (
            {f"{NAME}.input_scale": torch.tensor(0.5)},
            r"input_scale is 0\.5: its activations are quantised too",
        ),
        (
            {f"{NAME}.weight._data": torch.ones(8, 16, dtype=torch.uint8)},
            r"weight\._data is torch\.uint8",
        ),
    ],
)
def test_unsupported_quantisation_is_refused_by_name(
    tmp_path: Path, change: dict[str, Tensor | None], reason: str
) -> None:
    tensors = {
        **quanto(NAME, torch.ones(8, 16), torch.int8, largest=127),
        **change,
    }
    file = open_tensors(
        stored(
            tmp_path,
            {name: each for name, each in tensors.items() if each is not None},
        )
    )
    with pytest.raises(PipelineLoadFailed, match=reason):
        DequantisedFile(file)


def test_a_published_quantised_file_is_converted_like_a_plain_one(
    weights: Path, tmp_path: Path
) -> None:
    # given the whole transformer in one file, its blocks' linears quantised, as the authors publish
    # it beside Wan
    sources = official.publish(weights, tmp_path / "published", TINY_PRESET)
    tensors = official.original_transformer(official.load_part(weights, "transformer"))
    linears = [
        name for name, each in tensors.items() if name.startswith("blocks.") and each.ndim == 2
    ]
    checkpoint = {name: each for name, each in tensors.items() if name not in linears}
    for name in linears:
        checkpoint |= quanto(name.removesuffix(".weight"), tensors[name], torch.int8, largest=127)
    # when it is converted in place of InfiniteTalk's own file
    sources["infinitetalk"] = Source(stored(tmp_path, checkpoint))
    folder = convert(TINY_PRESET, tmp_path / "converted", sources, report=quiet)
    # then every weight is near what it was, and those that were not quantised are the same
    expected = load_file(weights / "transformer" / "diffusion_pytorch_model.safetensors")
    made = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    errors = {
        name: float((made[name].float() - each).norm() / each.norm())
        for name, each in expected.items()
    }
    assert made.keys() == expected.keys()
    assert max(errors.values()) < 0.01
    assert sum(error > 0 for error in errors.values()) == len(linears)
