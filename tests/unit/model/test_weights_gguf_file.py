from __future__ import annotations

import os
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from farm.errors import PipelineLoadFailed
from farm.model.weights import gguf_file
from farm.model.weights.gguf_file import BLOCKS, DTYPES, GgufFile
from farm.model.weights.tensorfile import TensorInfo
from tests.unit.model.community import write_gguf

RANDOM = np.random.default_rng(0)


def write_blocks(path: Path, kind: Kind, shape: tuple[int, int]) -> np.ndarray:
    """A file with one tensor of random blocks, whose scales are ordinary numbers; and its bytes."""
    weights, size = gguf.GGML_QUANT_SIZES[kind]
    rows, columns = shape
    blocks = RANDOM.integers(0, 256, (rows, columns // weights, size), dtype=np.uint8)
    # Every pair of bytes a float16 below 2: wherever the scales lie, none is infinite.
    blocks[:, :, 1::2] &= 0x3F
    blocks[:, :, 0::2] &= 0x3F
    data = blocks.reshape(rows, -1)
    writer = gguf.GGUFWriter(path, "wan")
    writer.add_tensor("w", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return data


@pytest.mark.parametrize("kind", BLOCKS, ids=lambda kind: BLOCKS[kind][0])
def test_quantised_weights_are_what_the_gguf_package_makes_of_them(
    kind: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_blocks(tmp_path / "model", Kind(kind), (6, 512))
    monkeypatch.setattr(gguf_file, "SLICE_BYTES", data.size // 5)  # the last slice is shorter
    file = GgufFile(tmp_path / "model")
    expected = gguf.dequantize(data, Kind(kind))
    assert file.info["w"] == TensorInfo(
        torch.Size([6, 512]), torch.float32, rounding=BLOCKS[kind][0]
    )
    assert np.isfinite(expected).all()
    assert len(np.unique(expected)) > 5
    assert np.array_equal(file.read("w").numpy(), expected)


def test_the_sizes_of_blocks_and_dtypes_are_those_of_the_gguf_package() -> None:
    assert {
        kind: (Kind(kind).name, *gguf.GGML_QUANT_SIZES[Kind(kind)]) for kind in BLOCKS
    } == BLOCKS
    assert {kind: (1, dtype.itemsize) for kind, dtype in DTYPES.items()} == {
        kind: gguf.GGML_QUANT_SIZES[Kind(kind)] for kind in DTYPES
    }


@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.BF16], ids=lambda kind: kind.name)
def test_plain_tensors_keep_dtype_shape_and_values(kind: Kind, tmp_path: Path) -> None:
    dtype = DTYPES[kind]
    tensor = torch.randn(2, 3, 1, 2, 2, generator=torch.Generator().manual_seed(1)).to(dtype)
    path = write_gguf(tmp_path / "model", {"patch": (tensor, kind), "bias": (tensor[0, 0], kind)})
    file = GgufFile(path)
    assert file.info["patch"] == TensorInfo(tensor.shape, dtype)
    assert torch.equal(file.read("patch"), tensor)
    assert torch.equal(file.read("bias"), tensor[0, 0])


def test_a_tensor_that_comfyui_has_reshaped_has_its_original_shape(tmp_path: Path) -> None:
    tensor = torch.randn(4, 64, generator=torch.Generator().manual_seed(2))
    fields = {"comfy.gguf.orig_shape.patch": [4, 16, 1, 2, 2]}
    path = write_gguf(tmp_path / "model", {"patch": (tensor, Kind.Q8_0)}, **fields)
    read = GgufFile(path).read("patch")
    assert read.shape == (4, 16, 1, 2, 2)
    assert (read.flatten() - tensor.flatten()).norm() / tensor.norm() < 0.01


def test_an_original_shape_of_another_size_is_refused(tmp_path: Path) -> None:
    fields = {"comfy.gguf.orig_shape.patch": [5, 64]}
    path = write_gguf(tmp_path / "model", {"patch": (torch.ones(4, 64), Kind.F32)}, **fields)
    with pytest.raises(PipelineLoadFailed, match=r"patch: its original shape \[5, 64\]"):
        GgufFile(path)


def test_a_file_cut_short_says_so_of_its_last_tensor_and_does_not_read_it(tmp_path: Path) -> None:
    tensor = torch.ones(4, 64)
    path = write_gguf(tmp_path / "model", {"a": (tensor, Kind.F32), "b": (tensor, Kind.Q8_0)})
    os.truncate(path, path.stat().st_size - 40)
    file = GgufFile(path)
    assert [info.complete for info in file.info.values()] == [True, False]
    with pytest.raises(PipelineLoadFailed, match="b cannot be read: the file ends before it"):
        file.read("b")


def test_an_empty_tensor_is_read_as_one(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(header(tensor("a", [0, 4]), tensor("b", [32, 0], kind=8), tensors=2))
    file = GgufFile(path)
    assert file.read("a").shape == (4, 0)
    assert file.read("b").shape == (0, 32)


def text(word: str) -> bytes:
    return struct.pack("<Q", len(word)) + word.encode()


def field(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: str, lengths: list[int], kind: int = 0, offset: int = 0) -> bytes:
    axes = struct.pack(f"<I{len(lengths)}Q", len(lengths), *lengths)
    return text(name) + axes + struct.pack("<IQ", kind, offset)


def header(*parts: bytes, tensors: int = 0, fields: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, fields) + b"".join(parts)


NESTED = struct.pack("<IQ", 9, 1)

HOSTILE = {
    "no header": (b"GGUF", "beyond its end"),
    "version 1": (header(version=1), "version 1; 2 and 3"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "version 50331648"),
    "many tensors": (header(tensors=2**63), "are too many"),
    "many fields": (header(fields=2**63), "are too many"),
    "fields that are not there": (header(fields=1000), "beyond its end"),
    "tensors that are not there": (header(tensors=1000), "beyond its end"),
    "a long key": (header(struct.pack("<Q", 2**63), fields=1), "beyond its end"),
    "a long string": (header(field("a", 8, struct.pack("<Q", 2**62)), fields=1), "beyond its end"),
    "a long array": (
        header(field("a", 9, struct.pack("<IQ", 0, 2**62)), fields=1),
        "items is too long",
    ),
    "an array that is not there": (
        header(field("a", 9, struct.pack("<IQ", 10, 10**6)), fields=1),
        "beyond its end",
    ),
    "strings that are not there": (
        header(field("a", 9, struct.pack("<IQ", 8, 10**6)), fields=1),
        "beyond its end",
    ),
    "strings without end": (
        header(field("a", 9, struct.pack("<IQQ", 8, 2, 2**64 - 1)), fields=1),
        "beyond its end",
    ),
    "an array of arrays": (header(field("a", 9, NESTED * 10_000), fields=1), "of the type 9"),
    "an unknown type": (header(field("a", 99, bytes(8)), fields=1), "of the type 99"),
    "a field twice": (
        header(field("a", 0, b"1"), field("a", 0, b"1"), fields=2),
        "the field a comes twice",
    ),
    "no text": (header(struct.pack("<Q", 1) + b"\xff", fields=1), "can't decode"),
    "alignment 0": (
        header(field("general.alignment", 4, bytes(4)), fields=1),
        "alignment is 0",
    ),
    "alignment 3": (
        header(field("general.alignment", 4, struct.pack("<I", 3)), fields=1),
        "alignment is 3",
    ),
    "alignment in words": (
        header(field("general.alignment", 8, text("32")), fields=1),
        "alignment is 32, which",
    ),
    "many axes": (header(tensor("a", [1] * 9), tensors=1), "a has 9 axes"),
    "axes without end": (
        header(text("a") + struct.pack("<I", 2**32 - 1), tensors=1),
        "axes",
    ),
    "huge axes": (header(tensor("a", [2**63, 2**63]), tensors=1), "more than 1099511627776 elem"),
    "huge and empty": (header(tensor("a", [2**63, 0]), tensors=1), "more than 1099511627776 elem"),
    "an unknown kind": (header(tensor("a", [4], kind=21), tensors=1), "a: its type is number 21"),
    "half a block": (header(tensor("a", [40], kind=8), tensors=1), "no whole blocks of Q8_0"),
    "a name twice": (
        header(tensor("a", [4]), tensor("a", [4], offset=32), tensors=2),
        "a comes twice",
    ),
    "an overlap": (
        header(tensor("a", [16]), tensor("b", [16], offset=32), tensors=2),
        "b begins at byte",
    ),
    "one in another": (
        header(tensor("a", [16]), tensor("b", [4], offset=0), tensors=2),
        "begins at byte",
    ),
}


@pytest.mark.parametrize(("content", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_header_that_no_program_writes_is_refused(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(PipelineLoadFailed, match=f"not a valid GGUF header: .*{reason}"):
        GgufFile(path)


def test_a_header_longer_than_allowed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "model", {"a": (torch.ones(4), Kind.F32)}, x=[1] * 100)
    assert GgufFile(path).info
    monkeypatch.setattr(gguf_file, "MAX_HEADER_BYTES", 100)
    with pytest.raises(PipelineLoadFailed, match="beyond its end"):
        GgufFile(path)


@pytest.mark.parametrize("offset", [32, 2**40, 2**64 - 64])
def test_a_tensor_beyond_the_end_of_the_file_is_incomplete(offset: int, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(header(tensor("a", [8], offset=offset), tensors=1) + bytes(64))
    file = GgufFile(path)
    assert not file.info["a"].complete
    with pytest.raises(PipelineLoadFailed, match="a cannot be read"):
        file.read("a")
