"""Files of tensors: what they hold, told without reading it; one tensor at a time in, one at a time out.

A checkpoint is larger than the memory of most machines, so nothing here keeps more than the tensor in hand. Layout of
a safetensors file: 8 bytes with the header's length, the header as JSON, the tensors. Source: the format's own
description, https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open
from torch import Tensor

from farm.errors import PipelineLoadFailed

DTYPES = {
    "I64": torch.int64,
    "F64": torch.float64,
    "F32": torch.float32,
    "I32": torch.int32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I16": torch.int16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""What a header calls a dtype; tensors lie in this order, the widest first, so that all are aligned when mapped."""

LONGEST_HEADER = 100_000_000
"""Bytes; the format's own limit."""

STAYS_MAPPED = 64 * 2**20
"""Bytes that may be read of a mapped file before it is mapped anew, which gives the pages read so far back."""


@dataclass(frozen=True)
class Listed:
    """A tensor as a file lists it."""

    shape: torch.Size
    dtype: torch.dtype
    whole: bool = True
    """Whether the file is long enough to hold all of it."""

    @property
    def size(self) -> int:
        """In bytes."""
        return prod(self.shape) * self.dtype.itemsize

    def hollow(self) -> Tensor:
        """A tensor of that shape and dtype that has no memory."""
        return torch.empty(self.shape, dtype=self.dtype, device="meta")


class TensorFile(Protocol):
    """A file of tensors."""

    path: Path
    listed: dict[str, Listed]

    def read(self, name: str) -> Tensor:
        """One tensor, mapped from the file."""


class Safetensors:
    """A safetensors file; PipelineLoadFailed if its header cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listed = _header(path)

    def read(self, name: str) -> Tensor:
        with safe_open(self.path, framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
            return tensor


class Pickled:
    """A `.pth` or `.bin` file, of which torch reads tensors and refuses everything else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tensors = _unpickled(path)
        self._touched = 0
        self.listed = {
            name: Listed(tensor.shape, tensor.dtype) for name, tensor in self._tensors.items()
        }

    def read(self, name: str) -> Tensor:
        self._touched += self.listed[name].size
        if self._touched > STAYS_MAPPED:
            self._tensors = _unpickled(self.path)
            self._touched = self.listed[name].size
        return self._tensors[name]


@dataclass(frozen=True)
class Entry:
    """A tensor to be written, made when its turn comes."""

    name: str
    listed: Listed
    make: Callable[[], Tensor]


def opened(path: Path) -> TensorFile:
    """A file of tensors by its ending; PipelineLoadFailed if it is not there or cannot be read."""
    if not path.is_file():
        raise PipelineLoadFailed(f"{path} is missing")
    return Safetensors(path) if path.suffix == ".safetensors" else Pickled(path)


def shards(folder: Path, stem: str) -> list[Path]:
    """The safetensors files that a folder's index names, or the only one; they need not be there."""
    index = folder / f"{stem}.safetensors.index.json"
    if not index.is_file():
        return [folder / f"{stem}.safetensors"]
    try:
        names = set(json.loads(index.read_text())["weight_map"].values())
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise PipelineLoadFailed(f"{index} is not an index of tensors: {error}") from error
    if outside := sorted(name for name in names if Path(name).name != name):
        raise PipelineLoadFailed(f"{index} names a file outside its folder: {outside[0]}")
    return [folder / name for name in sorted(names)]


def write_shards(
    folder: Path,
    stem: str,
    entries: Sequence[Entry],
    *,
    shard_bytes: int,
    wrote: Callable[[Entry], None],
) -> None:
    """Writes one file, or shards of up to `shard_bytes` with an index, as `from_pretrained` reads them.

    `wrote` is called after each tensor.
    """
    folder.mkdir(exist_ok=True)
    groups = _grouped(entries, shard_bytes)
    names = [
        f"{stem}-{number:05}-of-{len(groups):05}.safetensors"
        for number in range(1, len(groups) + 1)
    ]
    if len(groups) == 1:
        names = [f"{stem}.safetensors"]
    for name, group in zip(names, groups, strict=True):
        write(folder / name, group, wrote)
    if len(groups) > 1:
        places = {
            entry.name: name for name, group in zip(names, groups, strict=True) for entry in group
        }
        index = {
            "metadata": {"total_size": sum(entry.listed.size for entry in entries)},
            "weight_map": places,
        }
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=1))


def write(path: Path, entries: Sequence[Entry], wrote: Callable[[Entry], None]) -> None:
    """Writes a safetensors file, one tensor after the other, byte for byte as the library writes them all at once."""
    words = {dtype: word for word, dtype in DTYPES.items()}
    entries = sorted(entries, key=lambda entry: ([*words].index(entry.listed.dtype), entry.name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for entry in entries:
        begin = end
        end = end + entry.listed.size
        shape = list(entry.listed.shape)
        header[entry.name] = {
            "dtype": words[entry.listed.dtype],
            "shape": shape,
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for entry in entries:
            file.write(entry.make().contiguous().flatten().view(torch.uint8).numpy().data)
            wrote(entry)


def _grouped(entries: Sequence[Entry], limit: int) -> list[list[Entry]]:
    groups: list[list[Entry]] = [[]]
    filled = 0
    for entry in entries:
        if groups[-1] and filled + entry.listed.size > limit:
            groups.append([])
            filled = 0
        groups[-1].append(entry)
        filled += entry.listed.size
    return groups


def _header(path: Path) -> dict[str, Listed]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size - 8, LONGEST_HEADER):
            raise PipelineLoadFailed(
                f"{path} is cut short or no safetensors file: {size} bytes hold no whole header"
            )
        text = file.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        return {name: _listed(about, size - 8 - length) for name, about in header.items()}
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise PipelineLoadFailed(f"{path} has no header of a safetensors file: {error}") from error


def _listed(about: dict[str, list[int]], data: int) -> Listed:
    begin, end = about["data_offsets"]
    listed = Listed(torch.Size(about["shape"]), DTYPES[str(about["dtype"])], whole=end <= data)
    if end - begin != listed.size:
        raise ValueError(
            f"{listed.size} bytes of {about['dtype']} {about['shape']} do not fit {about['data_offsets']}"
        )
    return listed


def _unpickled(path: Path) -> dict[str, Tensor]:
    """A state dict; only torch's own reader of tensors ever looks at the pickle."""
    try:
        tensors = torch.load(
            path,
            map_location="cpu",
            weights_only=True,
            mmap=zipfile.is_zipfile(path),
        )
    except (
        pickle.UnpicklingError,
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PipelineLoadFailed(
            f"{path} is refused: it is damaged, or holds more than tensors ({reason})"
        ) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(each, Tensor) for each in tensors.values()
    ):
        raise PipelineLoadFailed(
            f"{path} is refused: a table of tensors is wanted, it holds something else"
        )
    return tensors
