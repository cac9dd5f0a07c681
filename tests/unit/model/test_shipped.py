"""The weights that come with the package."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import farm.model
from farm.cli import cli
from farm.model.checkpoints import load_part, load_tokenizer
from farm.model.weights.check import check_part
from farm.model.weights.containers import open_tensors
from farm.presets import PRESETS, Preset

PACKAGE = Path(farm.model.__file__).parent
SHIPPED = [each for each in PRESETS.values() if each.shipped]
WITH_WEIGHTS = [each for each in SHIPPED if each.weights is None]  # others have the same ones
PARTS = [
    pytest.param(PACKAGE / each.name, part, id=f"{each.name}-{part}")
    for each in WITH_WEIGHTS
    for part in each.parts
]


@pytest.fixture(params=WITH_WEIGHTS, ids=lambda each: each.name)
def folder(request: pytest.FixtureRequest) -> Path:
    return PACKAGE / request.param.name


def test_files_are_small_enough_for_a_repository(folder: Path) -> None:
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    assert max(sizes) < 16_000_000
    assert sum(sizes) < 45_000_000


def test_a_wheel_takes_every_file(folder: Path) -> None:
    project = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["farm.model"]
    taken = {file for pattern in patterns for file in PACKAGE.glob(pattern)}
    assert {file for file in folder.rglob("*") if file.is_file()} - taken == set()


@pytest.mark.parametrize(("folder", "part"), PARTS)
def test_weights_are_stored_in_16_bits_and_loaded_in_32(folder: Path, part: str) -> None:
    stored = check_part(folder, part)
    loaded = load_part(folder, part, dtype="float32").state_dict()
    assert {each.dtype.itemsize for each in stored.values() if each.dtype.is_floating_point} == {2}
    for file in (folder / part).glob("*.safetensors"):
        for name in open_tensors(file).info:
            assert loaded[name].dtype == torch.float32
            assert torch.equal(loaded[name], open_tensors(file).read(name).float())


def test_the_tokenizer_keeps_any_text(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    words = "a woman talks, 说话, 🙂"
    assert tokenizer.decode(tokenizer(words)["input_ids"], skip_special_tokens=True) == words


@pytest.mark.parametrize("each", SHIPPED, ids=lambda each: each.name)
def test_the_command_checks_the_packages_own(each: Preset, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli, ["weights", "check", each.name], env={"FARM_WEIGHTS": str(tmp_path)}
    )
    assert done.exit_code == 0, done.output
    first_words = [line.split()[0] for line in done.output.splitlines()]
    assert first_words == ["preset", *each.parts, "fingerprint"]


@pytest.mark.parametrize("act", ["pull", "convert"])
@pytest.mark.parametrize("each", SHIPPED, ids=lambda each: each.name)
def test_there_is_nothing_to_pull_or_convert(each: Preset, act: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli,
        ["weights", act, each.name],
        env={"FARM_WEIGHTS": str(tmp_path / "weights")},
    )
    assert done.exit_code == 2
    assert f"got '{each.name}'; its weights come with the package" in done.output
    assert not (tmp_path / "weights").exists()
