"""Files of tensors: what they hold, from their headers; one tensor at a time in, one at a time out.

A checkpoint is larger than the memory of most machines, so nothing here keeps more than one tensor.
Layout of a safetensors file: 8 bytes with the header's length, the header as JSON, the tensors.
Source: the format's own description, https://github.com/huggingface/safetensors#format. The other
containers are `pickle_file` and `gguf_file`.
"""

from __future__ import annotations

import json
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from farm.errors import PipelineLoadFailed
from farm.model.parts import weights_stem

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
"""The dtypes by their names in a header.

Tensors lie in this order, the widest first, so that all are aligned when mapped.
"""

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""

MAX_ELEMENTS = 2**40
"""Of a tensor; a thousand times the largest one of the model."""

REMAP_AFTER_BYTES = 64 * 2**20
"""Bytes read of a mapped file until it is mapped again, which releases the pages read so far."""


@dataclass(frozen=True)
class TensorInfo:
    """A tensor as the header of its file describes it."""

    shape: torch.Size
    dtype: torch.dtype
    complete: bool = True
    """Whether the file is long enough to hold all of it."""
    rounding: str = ""
    """How its values are rounded in the file, where the dtype does not say so: `Q8_0`, `int8`."""

    @property
    def size(self) -> int:
        """In bytes."""
        return prod(self.shape) * self.dtype.itemsize

    def meta_tensor(self) -> Tensor:
        """A tensor of that shape and dtype without memory."""
        return torch.empty(self.shape, dtype=self.dtype, device="meta")


class TensorFile(Protocol):
    """A file of tensors."""

    path: Path
    container: str
    """The format of the file."""
    info: dict[str, TensorInfo]

    def read(self, name: str) -> Tensor:
        """One tensor, mapped from the file."""


class SafetensorsFile(Mapping[str, Tensor]):
    """The tensors of a safetensors file by name, each mapped from the file when it is read.

    Creating one reads the header alone. Raises PipelineLoadFailed if the file, or later a tensor,
    cannot be read.
    """

    container = "safetensors"

    def __init__(self, path: Path, *, remap_after_bytes: int | None = None) -> None:
        """`remap_after_bytes` limits the memory of a pass over the whole file.

        None maps it once.
        """
        self.path = path
        self.info, self.metadata = _read_header(path)
        self._remap_after_bytes = remap_after_bytes
        self._bytes_read = 0
        self._mapped: Any = None

    def map(self) -> None:
        """Maps the file into memory; PipelineLoadFailed unless it holds every tensor whole."""
        try:
            self._mapped = safe_open(self.path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise PipelineLoadFailed(f"{self.path} cannot be read: {error}") from error
        self._bytes_read = 0

    def read(self, name: str) -> Tensor:
        """One tensor, mapped from the file."""
        info = self.info[name]
        if self._mapped is None:
            self.map()
        if self._remap_after_bytes is not None:
            self._bytes_read += info.size
            if self._bytes_read > self._remap_after_bytes:
                self.map()
                self._bytes_read = info.size
        tensor: Tensor = self._mapped.get_tensor(name)
        return tensor

    def __getitem__(self, name: str) -> Tensor:
        return self.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.info)

    def __len__(self) -> int:
        return len(self.info)


@dataclass(frozen=True)
class Entry:
    """A tensor to be written, made when its turn comes."""

    name: str
    info: TensorInfo
    make: Callable[[], Tensor]


def part_tensors(folder: Path, part: str) -> Mapping[str, Tensor]:
    """The tensors of one part of a checkpoint folder, mapped from its file or its shards."""
    paths = shard_paths(folder / part, weights_stem(part))
    files = [SafetensorsFile(path) for path in paths]
    for file in files:
        file.map()
    return ChainMap(*files)  # type: ignore[arg-type]  # typed as mutable; nothing is ever set


def shard_paths(folder: Path, stem: str) -> list[Path]:
    """The safetensors files that a folder's index names, or the only one; they need not exist."""
    index = folder / f"{stem}.safetensors.index.json"
    if not index.is_file():
        return [folder / f"{stem}.safetensors"]
    try:
        names = set(json.loads(index.read_text())["weight_map"].values())
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise PipelineLoadFailed(f"{index} is not an index of tensors: {error}") from error
    outside = sorted(name for name in names if Path(name).name != name)
    if outside:
        raise PipelineLoadFailed(f"{index} names a file outside its folder: {outside[0]}")
    return [folder / name for name in sorted(names)]


def write_shards(
    folder: Path,
    stem: str,
    entries: Sequence[Entry],
    *,
    shard_bytes: int,
    on_written: Callable[[Entry], None],
) -> None:
    """Writes one file, or shards with an index, as `from_pretrained` reads them.

    A shard holds up to `shard_bytes`. `on_written` is called after each tensor.
    """
    folder.mkdir(exist_ok=True)
    shards = _split(entries, shard_bytes)
    if len(shards) == 1:
        write_safetensors(folder / f"{stem}.safetensors", entries, on_written)
        return
    file_of: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        write_safetensors(folder / name, shard, on_written)
        file_of |= {entry.name: name for entry in shard}
    total_size = sum(entry.info.size for entry in entries)
    index = {"metadata": {"total_size": total_size}, "weight_map": file_of}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=1))


def write_safetensors(
    path: Path, entries: Sequence[Entry], on_written: Callable[[Entry], None]
) -> None:
    """Writes a file one tensor after the other, byte for byte as the library writes all at once."""
    order = list(DTYPES.values())
    entries = sorted(entries, key=lambda entry: (order.index(entry.info.dtype), entry.name))
    header = _encode_header(entries)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for entry in entries:
            tensor = entry.make().contiguous().flatten()
            file.write(tensor.view(torch.uint8).numpy().data)
            on_written(entry)


def _encode_header(entries: Sequence[Entry]) -> bytes:
    dtype_names = {dtype: name for name, dtype in DTYPES.items()}
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for entry in entries:
        begin = end
        end = begin + entry.info.size
        header[entry.name] = {
            "dtype": dtype_names[entry.info.dtype],
            "shape": list(entry.info.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    padding = -len(text) % 8  # the tensors begin at a multiple of 8
    return text + b" " * padding


def _split(entries: Sequence[Entry], shard_bytes: int) -> list[list[Entry]]:
    """The entries in their order, in groups of up to `shard_bytes`; a larger one is alone."""
    shards: list[list[Entry]] = [[]]
    filled = 0
    for entry in entries:
        if shards[-1] and filled + entry.info.size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(entry)
        filled += entry.info.size
    return shards


def _read_header(path: Path) -> tuple[dict[str, TensorInfo], dict[str, Any]]:
    """The tensors of a file, and what else its writer noted."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(size - 8, MAX_HEADER_BYTES):
                raise PipelineLoadFailed(
                    f"{path} cannot be read: truncated or not a safetensors file: "
                    f"{size} bytes are too few for its header"
                )
            text = file.read(length)
    except OSError as error:
        raise PipelineLoadFailed(f"{path} cannot be read: {error}") from error
    try:
        header = json.loads(text)
        metadata = dict(header.pop("__metadata__", {}))
        data_bytes = size - 8 - length
        info = {name: _tensor_info(fields, data_bytes) for name, fields in header.items()}
        _check_offsets(sorted(fields["data_offsets"] for fields in header.values()))
        return info, metadata
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise PipelineLoadFailed(
            f"{path} cannot be read: its header is not a valid safetensors header: {error}"
        ) from error


def _tensor_info(fields: dict[str, Any], data_bytes: int) -> TensorInfo:
    begin, end = fields["data_offsets"]
    shape = checked_shape(fields["shape"])
    info = TensorInfo(shape, DTYPES[str(fields["dtype"])], complete=end <= data_bytes)
    if end - begin != info.size:
        raise ValueError(
            f"{info.size} bytes of {fields['dtype']} {fields['shape']} "
            f"do not fit {fields['data_offsets']}"
        )
    return info


def checked_shape(lengths: Sequence[int]) -> torch.Size:
    """A shape from a header; ValueError if no tensor can have it."""
    if any(length < 0 for length in lengths):
        raise ValueError(f"the shape {lengths} has a negative length")
    if prod(max(length, 1) for length in lengths) > MAX_ELEMENTS:
        raise ValueError(f"the shape {lengths} has more than {MAX_ELEMENTS} elements")
    return torch.Size(lengths)


def _check_offsets(offsets: Sequence[Sequence[int]]) -> None:
    """Raises ValueError unless tensors lie one behind the other, as the format demands.

    Of a file with overlaps the library reads nothing.
    """
    last_end = 0
    for begin, end in offsets:
        if begin != last_end:
            raise ValueError(f"a tensor begins at byte {begin}, where {last_end} is expected")
        last_end = end
