"""Fingerprints tell any two sets of weights apart, and read each file once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from farm.errors import PipelineLoadFailed
from farm.model.weights.fingerprint import (
    AUDIO_PARTS,
    UNREMEMBERED,
    VIDEO_PARTS,
    Digests,
    checkpoint_fingerprint,
    fingerprint,
)

TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy(weights: Path, tmp_path: Path) -> Path:
    """Another folder with the same weights."""
    return shutil.copytree(weights, tmp_path / "copy")


def video(folder: Path) -> str:
    return fingerprint(folder, VIDEO_PARTS, UNREMEMBERED)


def scale(file: Path, factor: float) -> None:
    scaled = {name: factor * each for name, each in load_file(file).items()}
    save_file(scaled, file, metadata={"format": "pt"})


def test_a_copy_has_the_same_fingerprint(weights, copy):
    (copy / "transformer" / ".nfs0001").write_text("what a file system leaves")
    assert checkpoint_fingerprint(copy, UNREMEMBERED) == checkpoint_fingerprint(
        weights, UNREMEMBERED
    )


def test_scaled_weights_with_an_equal_header_have_another_one(weights, copy):
    scale(copy / TRANSFORMER, 1.3)
    assert (copy / TRANSFORMER).stat().st_size == (weights / TRANSFORMER).stat().st_size
    assert video(copy) != video(weights)


def test_one_changed_byte_in_the_middle_of_a_file_is_noticed(weights, copy):
    content = bytearray((copy / TRANSFORMER).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / TRANSFORMER).write_bytes(content)
    assert video(copy) != video(weights)


@pytest.mark.parametrize("file", ["vae/config.json", "tokenizer/tokenizer.json"])
def test_configurations_and_the_tokenizer_belong_to_the_weights(weights, copy, file):
    content = json.loads((copy / file).read_text())
    (copy / file).write_text(json.dumps({**content, "changed": True}))
    assert video(copy) != video(weights)


@pytest.mark.parametrize("name", ["_diffusers_version", "transformers_version"])
def test_the_library_that_wrote_a_configuration_does_not_matter(weights, copy, name):
    config = json.loads((copy / "vae/config.json").read_text())
    (copy / "vae/config.json").write_text(json.dumps({**config, name: "99.0"}))
    assert video(copy) == video(weights)


def test_the_speech_encoder_has_a_fingerprint_of_its_own(weights, copy):
    scale(copy / "audio_encoder/model.safetensors", 1.3)
    assert video(copy) == video(weights)
    audio, other = (fingerprint(each, AUDIO_PARTS, UNREMEMBERED) for each in (weights, copy))
    assert audio != other
    assert checkpoint_fingerprint(weights, UNREMEMBERED) == f"{audio}-{video(weights)}"


def test_a_part_that_is_missing_is_named(copy):
    shutil.rmtree(copy / "vae")
    with pytest.raises(PipelineLoadFailed, match=r"copy/vae"):
        video(copy)


# What is remembered


@pytest.fixture
def digests(tmp_path: Path) -> Digests:
    """Remembers files of any age."""
    return Digests(tmp_path / "home" / "digests", settled_s=-1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    return path


def test_a_file_is_read_once(digests, file):
    first = digests.of(file)
    (entry,) = digests.folder.iterdir()
    assert entry.read_text() == first
    entry.write_text("remembered")
    assert digests.of(file) == "remembered"


def overwrite(file: Path) -> None:
    file.write_bytes(b"WEIGHTS and more")


def replace(file: Path) -> None:
    """Another file of equal size and modification time under its name."""
    found = file.stat()
    other = file.with_suffix(".new")
    other.write_bytes(b"WEIGHTS")
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.replace(file)


@pytest.mark.parametrize("change", [overwrite, replace])
def test_a_changed_file_is_read_again(digests, file, change: Callable[[Path], None]):
    before = digests.of(file)
    change(file)
    assert digests.of(file) == UNREMEMBERED.of(file) != before


def test_a_file_that_may_yet_change_within_a_tick_of_the_clock_is_not_remembered(digests, file):
    young = Digests(digests.folder, settled_s=3600)
    assert young.of(file) == UNREMEMBERED.of(file)
    assert not digests.folder.exists()


def test_digests_that_cannot_be_remembered_are_computed(file, tmp_path):
    (tmp_path / "full").touch()
    assert Digests(tmp_path / "full", settled_s=-1).of(file) == UNREMEMBERED.of(file)


def test_a_file_that_cannot_be_read_is_named(digests, tmp_path):
    with pytest.raises(PipelineLoadFailed, match=r"none\.safetensors cannot be read"):
        digests.of(tmp_path / "none.safetensors")
