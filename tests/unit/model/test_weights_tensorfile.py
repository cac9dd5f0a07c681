from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from farm.errors import PipelineLoadFailed
from farm.local.worker import worker_environ
from farm.model.weights import tensorfile
from farm.model.weights.containers import open_tensors
from farm.model.weights.tensorfile import (
    DTYPES,
    Entry,
    SafetensorsFile,
    TensorInfo,
    part_tensors,
    shard_paths,
    write_safetensors,
    write_shards,
)
from tests.unit.model.community import SAVES

TENSORS = {
    "a.half": torch.arange(7, dtype=torch.float16),
    "b.brain": torch.randn(3, 5).bfloat16(),
    "c.single": torch.randn(2, 3, 4),
    "d.scalar": torch.tensor(2.5),
    "e.whole": torch.arange(3),
    "f.empty": torch.zeros(0, 4),
    "g.größe": torch.ones(1),
}


def entries(tensors: dict[str, Tensor]) -> list[Entry]:
    return [Entry(name, TensorInfo(t.shape, t.dtype), lambda t=t: t) for name, t in tensors.items()]


def ignore(entry: Entry) -> None:
    pass


def test_a_file_is_written_byte_for_byte_as_the_library_writes_it(
    tmp_path: Path,
) -> None:
    tensors = TENSORS | {
        f"of {word}": torch.ones(3).to(dtype) for word, dtype in reversed(DTYPES.items())
    }
    write_safetensors(tmp_path / "ours.safetensors", entries(tensors), ignore)
    save_file(tensors, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    assert (tmp_path / "ours.safetensors").read_bytes() == (
        tmp_path / "theirs.safetensors"
    ).read_bytes()


def test_a_header_gives_shape_and_dtype_of_every_tensor(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    listed = open_tensors(tmp_path / "model.safetensors").info
    assert listed == {
        name: TensorInfo(tensor.shape, tensor.dtype) for name, tensor in TENSORS.items()
    }


def test_tensors_read_are_those_that_were_written(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", entries(TENSORS), ignore)
    torch.save(TENSORS, tmp_path / "model.pth")
    for file in (
        open_tensors(tmp_path / "model.safetensors"),
        open_tensors(tmp_path / "model.pth"),
    ):
        for name, tensor in TENSORS.items():
            torch.testing.assert_close(file.read(name), tensor, rtol=0, atol=0)


def test_a_part_in_shards_is_one_mapping_of_its_tensors(tmp_path: Path) -> None:
    folder = tmp_path / "text_encoder"
    write_shards(folder, "model", entries(TENSORS), shard_bytes=50, on_written=ignore)
    assert len(list(folder.glob("*.safetensors"))) > 1
    assert_stored(part_tensors(tmp_path, "text_encoder"), TENSORS)


@pytest.mark.parametrize("shard_bytes", [50, 10**6], ids=["shards", "one file"])
def test_a_leftover_shard_of_another_split_changes_nothing(
    shard_bytes: int, tmp_path: Path
) -> None:
    folder = tmp_path / "text_encoder"
    write_shards(folder, "model", entries(TENSORS), shard_bytes=shard_bytes, on_written=ignore)
    # given a shard that sorts first, with older values and a tensor that the part no longer has
    leftover = {"d.scalar": torch.tensor(-1.0), "h.old": torch.ones(1)}
    save_file(leftover, folder / "model-00001-of-00001.safetensors")
    assert_stored(part_tensors(tmp_path, "text_encoder"), TENSORS)


def assert_stored(stored: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert {*stored} == {*expected}
    for name, tensor in expected.items():
        torch.testing.assert_close(stored[name], tensor, rtol=0, atol=0)


def test_a_file_without_a_limit_is_mapped_once_and_one_with_a_limit_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a file of 7 tensors of 400 bytes
    save_file({f"{number}": torch.ones(100) for number in range(7)}, tmp_path / "model.safetensors")
    opened: list[Path] = []

    def counted(path: Path, **options: str) -> object:
        opened.append(path)
        return safe_open(path, **options)

    monkeypatch.setattr(tensorfile, "safe_open", counted)
    # when all of it is read, then it was mapped once, or after every third tensor
    for limit, times in ((None, 1), (1200, 3)):
        opened.clear()
        file = SafetensorsFile(tmp_path / "model.safetensors", remap_after_bytes=limit)
        assert all((tensor == 1).all() for tensor in file.values())
        assert len(opened) == times


@pytest.mark.parametrize("content", [None, b"not a checkpoint", b""])
def test_a_file_that_cannot_be_read_is_refused_by_its_path(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PipelineLoadFailed, match=r"model\.safetensors cannot be read"):
        SafetensorsFile(path)


def tensor_at(begin: int, end: int, *shape: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"a": tensor_at(0, 16, 4), "b": tensor_at(8, 24, 4)}, "begins at byte 8, where 16"),
        ({"a": tensor_at(0, 16, 4), "b": tensor_at(0, 16, 4)}, "begins at byte 0, where 16"),
        ({"a": tensor_at(0, 16, 4), "b": tensor_at(32, 48, 4)}, "begins at byte 32, where 16"),
        ({"a": tensor_at(4, 0, -1)}, r"the shape \[-1\] has a negative length"),
        ({"a": tensor_at(0, 16, -2, -2)}, r"the shape \[-2, -2\] has a negative length"),
    ],
    ids=["overlap", "twice", "gap", "negative", "twice negative"],
)
def test_a_file_whose_header_describes_what_no_file_holds_is_refused(
    header: dict[str, object], reason: str, tmp_path: Path
) -> None:
    text = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(64))
    with pytest.raises(PipelineLoadFailed, match=f"not a valid safetensors header: .*{reason}"):
        SafetensorsFile(path)


def test_a_header_or_an_index_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    text = b"[" * 100_000
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(PipelineLoadFailed, match="not a valid safetensors header"):
        SafetensorsFile(path)
    (tmp_path / "model.safetensors.index.json").write_bytes(text)
    with pytest.raises(PipelineLoadFailed, match="is not an index of tensors"):
        shard_paths(tmp_path, "model")


def test_a_file_cut_short_has_a_header_and_cannot_be_mapped(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(100), "b": torch.ones(100)}, path)
    os.truncate(path, path.stat().st_size - 1)
    file = SafetensorsFile(path)
    assert [info.complete for info in file.info.values()] == [True, False]
    with pytest.raises(PipelineLoadFailed, match=r"model\.safetensors cannot be read"):
        file.map()


def test_shards_stay_under_their_size_and_make_up_the_whole(tmp_path: Path) -> None:
    tensors = {f"blocks.{number}": torch.full((100,), float(number)) for number in range(7)}
    write_shards(tmp_path / "part", "model", entries(tensors), shard_bytes=800, on_written=ignore)
    files = shard_paths(tmp_path / "part", "model")
    assert [each.name for each in files] == [
        f"model-{number:05}-of-00004.safetensors" for number in range(1, 5)
    ]
    read = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_tensors_that_fit_into_one_file_are_one_file(tmp_path: Path) -> None:
    write_shards(
        tmp_path / "part",
        "model",
        entries(TENSORS),
        shard_bytes=10**6,
        on_written=ignore,
    )
    assert [each.name for each in (tmp_path / "part").iterdir()] == ["model.safetensors"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("ending", ["safetensors", "pth", "gguf"])
def test_a_file_of_256_mb_is_copied_in_a_fraction_of_that_memory(
    ending: str, tmp_path: Path
) -> None:
    # given 64 tensors of 4 MB
    tensors = {f"blocks.{n}.weight": torch.full((1024, 1024), float(n)) for n in range(64)}
    source = tmp_path / f"model.{ending}"
    save = {"safetensors": save_file, "pth": torch.save, "gguf": SAVES["GGUF Q8_0"]}[ending]
    save(tensors, source)
    # when another process reads, casts and writes them
    done = subprocess.run(
        [sys.executable, "-c", COPY, source, tmp_path / "copy"],
        env=worker_environ(os.environ),  # or holes of the allocator are measured: 85 to 104 MB
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # then it never held more than the tensor in hand and the pages that were read last
    assert int(done.stdout) < 100
    copied = load_file(tmp_path / "copy")["blocks.63.weight"]
    assert torch.equal(copied, torch.full((1024, 1024), 63.0, dtype=torch.bfloat16))


COPY = """
import sys, torch
from pathlib import Path
from farm.model.weights.containers import open_tensors
from farm.model.weights.tensorfile import Entry, TensorInfo, write_safetensors

def peak_mb():
    status = dict(line.split(":") for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0]) // 1024

source = open_tensors(Path(sys.argv[1]))
make = lambda name: lambda: source.read(name).to(torch.bfloat16)
entries = [
    Entry(name, TensorInfo(info.shape, torch.bfloat16), make(name))
    for name, info in source.info.items()
]
open("/proc/self/clear_refs", "w").write("5")
before = peak_mb()
write_safetensors(Path(sys.argv[2]), entries, lambda entry: None)
print(peak_mb() - before)
"""
