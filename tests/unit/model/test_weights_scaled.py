from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from farm.errors import PipelineLoadFailed
from farm.model.weights.containers import open_weights
from farm.model.weights.scaled import ScaledFile
from tests.unit.model.community import comfy_quant

WEIGHT = torch.tensor([[1.0, -2.0], [0.5, 448.0], [3.0, 0.0]])
FP8 = WEIGHT.to(torch.float8_e4m3fn)
"""Numbers that float8 holds exactly."""


def opened(tmp_path: Path, tensors: dict[str, Tensor], **metadata: str) -> ScaledFile:
    save_file(tensors, tmp_path / "model", metadata=metadata)
    file = open_weights(tmp_path / "model")
    assert isinstance(file, ScaledFile)
    return file


@pytest.mark.parametrize("name", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize(
    "scale",
    [
        torch.tensor(0.25),
        torch.tensor([0.25]),
        torch.tensor([1.0, 2.0, 4.0]),
        torch.tensor([[1.0], [2.0], [4.0]]),
    ],
    ids=["scalar", "one", "rows", "column"],
)
def test_a_weight_is_multiplied_by_its_scale(name: str, scale: Tensor, tmp_path: Path) -> None:
    tensors = {"a.weight": FP8, f"a.{name}": scale, "a.bias": torch.ones(3).half()}
    file = opened(tmp_path, tensors)
    assert torch.equal(file.read("a.weight"), WEIGHT * scale.reshape(-1, 1))
    assert torch.equal(file.read("a.bias"), torch.ones(3).half())
    assert {name: info.dtype for name, info in file.info.items()} == {
        "a.weight": torch.float32,
        "a.bias": torch.float16,
    }


def test_markers_formats_and_scales_of_inputs_are_left_out(tmp_path: Path) -> None:
    tensors = {
        "scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn),
        "a.weight": FP8,
        "a.scale_weight": torch.tensor(2.0),
        "a.scale_input": torch.tensor(3.0),
        "a.comfy_quant": comfy_quant({"format": "float8_e4m3fn"}),
    }
    assert list(opened(tmp_path, tensors).info) == ["a.weight"]


SOUND = {"a.weight": FP8, "a.scale_weight": torch.tensor(2.0)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"b.weight": FP8.clone()}, "b.weight: it lacks its scale, which other weights"),
        ({"b.scale_weight": torch.tensor(1.0)}, "b.scale_weight: the weight that it scales is not"),
        ({"a.scale_weight": torch.ones(2)}, r"a.weight: its scale is \[2\]; one number"),
        ({"a.scale_weight": torch.ones(3, 2)}, r"a.weight: its scale is \[3, 2\]; one number"),
        ({"a.weight": FP8.to(torch.int8)}, "a.weight: torch.int8 with a scale cannot be read"),
        ({"a.weight_scale_2": torch.ones(1)}, "a.weight_scale_2: weights in four bits"),
        ({"a.comfy_quant": comfy_quant({"format": "nvfp4"})}, "nvfp4.* cannot be read; float8"),
        ({"a.comfy_quant": comfy_quant({})}, "cannot be read; float8_e4m3fn"),
        (
            {"a.comfy_quant": comfy_quant({"format": "float8_e4m3fn", "convrot": True})},
            "a.comfy_quant: the format .*convrot",
        ),
        (
            {"a.comfy_quant": torch.zeros(10_001, dtype=torch.uint8)},
            "10001 bytes of .* are no format",
        ),
        ({"a.comfy_quant": torch.zeros(3, dtype=torch.uint8)}, "a.comfy_quant: it is not JSON"),
        ({"a.comfy_quant": torch.full((9,), -1, dtype=torch.int16)}, "int16 are no format"),
    ],
)
def test_what_a_scale_alone_does_not_restore_is_refused_by_name(
    change: dict[str, Tensor], reason: str, tmp_path: Path
) -> None:
    save_file(SOUND | change, tmp_path / "model")
    with pytest.raises(PipelineLoadFailed, match=reason):
        open_weights(tmp_path / "model")


@pytest.mark.parametrize(
    ("formats", "reason"),
    [
        ('{"layers": {"a": {"format": "int8_tensorwise"}}}', "a: the format .*int8_tensorwise"),
        ("{", "_quantization_metadata: it is not JSON"),
        ("[]", "_quantization_metadata: it is no format"),
    ],
)
def test_a_format_in_the_header_counts_too(formats: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineLoadFailed, match=reason):
        opened(tmp_path, SOUND, _quantization_metadata=formats)
    known = json.dumps({"layers": {"a": {"format": "float8_e5m2"}}})
    assert opened(tmp_path, SOUND, _quantization_metadata=known).info


def test_float8_without_any_scale_is_taken_as_it_is(tmp_path: Path) -> None:
    save_file({"a.weight": FP8}, tmp_path / "model")
    file = open_weights(tmp_path / "model")
    assert torch.equal(file.read("a.weight").float(), WEIGHT)


def test_a_file_that_is_marked_as_scaled_and_has_no_scales_is_refused(tmp_path: Path) -> None:
    marker = {"scaled_fp8": torch.zeros(0, dtype=torch.float8_e4m3fn)}
    save_file({"a.weight": FP8} | marker, tmp_path / "model")
    with pytest.raises(PipelineLoadFailed, match=r"a\.weight: it lacks its scale"):
        open_weights(tmp_path / "model")
