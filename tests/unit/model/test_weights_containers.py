from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import save_file

from farm.errors import PipelineLoadFailed
from farm.model.weights.containers import container, open_tensors
from tests.unit.model.community import write_gguf

TENSORS = {"a": torch.ones(4)}


def old_pickle(path: Path) -> None:
    torch.save(TENSORS, path, _use_new_zipfile_serialization=False)


WRITE = {
    "safetensors": lambda path: save_file(TENSORS, path),
    "GGUF": lambda path: write_gguf(path, {"a": (TENSORS["a"], Kind.F32)}),
    "pickle": lambda path: torch.save(TENSORS, path),
    "old pickle": old_pickle,
}


@pytest.mark.parametrize("kind", WRITE)
@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf", "model.pth", "model"])
def test_a_file_is_opened_by_its_first_bytes_whatever_its_name(
    kind: str, name: str, tmp_path: Path
) -> None:
    WRITE[kind](tmp_path / name)
    file = open_tensors(tmp_path / name)
    assert file.container == container(tmp_path / name) == kind.removeprefix("old ")
    assert torch.equal(file.read("a"), TENSORS["a"])


@pytest.mark.parametrize("length", [0x0280, 0x0480, 0x04034B50, 0x46554747 & 0xFFFFFF])
def test_a_header_whose_length_looks_like_another_container_is_that_of_safetensors(
    length: int, tmp_path: Path
) -> None:
    text = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    (tmp_path / "model").write_bytes(length.to_bytes(8, "little") + text + bytes(4))
    assert torch.equal(open_tensors(tmp_path / "model").read("a"), torch.zeros(1))


@pytest.mark.parametrize("content", [b"", b"\x80", b"GGU", b"PK\x05\x06" + bytes(18), b"<html>"])
def test_what_is_none_of_the_containers_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(PipelineLoadFailed, match=r"model\.safetensors cannot be read: .*neither"):
        open_tensors(tmp_path / "model.safetensors")


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pth", "w") as archive:
        archive.writestr("document.xml", "<a/>")
    with pytest.raises(PipelineLoadFailed, match="neither a safetensors file, a GGUF nor a pickle"):
        open_tensors(tmp_path / "model.pth")
