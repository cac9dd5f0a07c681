from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import farm.model
from farm.errors import PipelineLoadFailed
from farm.model.checkpoints import checkpoint_folder, load_part
from farm.presets import MINIATURE, preset
from tests.support.threads import race
from tests.support.tiny_model import TINY_PRESET

FILES = {
    "transformer": "diffusion_pytorch_model.safetensors",
    "audio_encoder": "model.safetensors",
}
TENSORS = {
    "transformer": "blocks.1.attn_audio.to_kv.weight",
    "audio_encoder": "encoder.layers.1.attention.k_proj.weight",
}


@pytest.fixture(params=FILES)
def part(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def damaged(part: str, weights: Path, tmp_path: Path) -> Path:
    """A folder with a copy of the part that a test may damage."""
    shutil.copytree(weights / part, tmp_path / part)
    return tmp_path


def rewrite(folder: Path, part: str, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, folder / part / FILES[part], metadata={"format": "pt"})


def test_a_missing_tensor_is_named(part: str, damaged: Path) -> None:
    tensors = load_file(damaged / part / FILES[part])
    del tensors[TENSORS[part]]
    rewrite(damaged, part, tensors)
    with pytest.raises(PipelineLoadFailed, match=f"1 missing .*{TENSORS[part]}"):
        load_part(damaged, part, dtype="float32")


def test_an_unexpected_tensor_is_named(part: str, damaged: Path) -> None:
    rewrite(
        damaged,
        part,
        load_file(damaged / part / FILES[part]) | {"blocks.9.surprise": torch.ones(1)},
    )
    with pytest.raises(PipelineLoadFailed, match=r"1 unexpected .*blocks\.9\.surprise"):
        load_part(damaged, part, dtype="float32")


def test_a_renamed_tensor_is_named(part: str, damaged: Path) -> None:
    tensors = load_file(damaged / part / FILES[part])
    tensors["blocks.0.old_name"] = tensors.pop(TENSORS[part])
    rewrite(damaged, part, tensors)
    with pytest.raises(PipelineLoadFailed, match=TENSORS[part]):
        load_part(damaged, part, dtype="float32")


def test_a_tensor_of_another_shape_is_named(part: str, damaged: Path) -> None:
    tensors = load_file(damaged / part / FILES[part])
    tensors[TENSORS[part]] = torch.zeros(3, 5)
    rewrite(damaged, part, tensors)
    with pytest.raises(PipelineLoadFailed, match=rf"1 mismatched .*{TENSORS[part]}.*\[3, 5\]"):
        load_part(damaged, part, dtype="float32")


def test_a_file_cut_short_is_refused(part: str, damaged: Path) -> None:
    file = damaged / part / FILES[part]
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(PipelineLoadFailed, match=f"{part} cannot be loaded"):
        load_part(damaged, part, dtype="float32")


def test_missing_weights_are_named_by_path(tmp_path: Path) -> None:
    with pytest.raises(
        PipelineLoadFailed,
        match=f"{tmp_path}/infinitetalk-480/transformer is missing",
    ):
        checkpoint_folder(preset("infinitetalk-480"), tmp_path)


def test_a_missing_part_is_named(weights: Path, tmp_path: Path) -> None:
    shutil.copytree(weights, tmp_path / "tiny", ignore=shutil.ignore_patterns("vae"))
    with pytest.raises(
        PipelineLoadFailed,
        match=r"tiny/vae is missing: .*run `farm weights pull`",
    ):
        checkpoint_folder(TINY_PRESET, tmp_path)


def test_shipped_weights_come_from_the_package(
    tmp_path: Path,
) -> None:
    # given a folder that an earlier version drew
    (tmp_path / "miniature").mkdir()
    assert checkpoint_folder(MINIATURE, tmp_path) == Path(farm.model.__file__).parent / "miniature"


def test_a_package_without_its_weights_must_be_reinstalled(
    tmp_path: Path,
) -> None:
    with pytest.raises(
        PipelineLoadFailed,
        match=r"lost/transformer is missing: .*reinstall the package",
    ):
        checkpoint_folder(replace(MINIATURE, name="lost"), tmp_path)


def test_parts_that_are_loaded_at_once_have_all_their_weights(weights: Path) -> None:
    parts = cycle(FILES)
    models = race(lambda: load_part(weights, next(parts), dtype="float32"), 6)
    assert len(models) == 6
    assert not any(each.is_meta for model in models for each in model.parameters())
