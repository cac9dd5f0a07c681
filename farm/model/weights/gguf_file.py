"""GGUF files, the container of ComfyUI's quantised weights.

The letters GGUF, a version, two counts; fields, each a key, a type and a value; of each tensor
name, lengths (the last axis first), type and offset; then the tensors, each at a multiple of the
alignment. Source: the format's own description,
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The `gguf` package turns blocks into
numbers; the header is read here, because its reader follows any count that a file claims.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from farm.errors import PipelineLoadFailed
from farm.model.weights.tensorfile import MAX_HEADER_BYTES, TensorInfo, checked_shape

MAGIC = b"GGUF"
VERSIONS = (2, 3)

MAX_COUNT = 100_000
"""Of fields and of tensors."""
MAX_ITEMS = 1_000_000
"""Of an array; a vocabulary of UMT5 has a quarter of it."""
MAX_AXES = 8

SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
"""`struct`'s code by the type of a field."""
STRING = 8
ARRAY = 9

DTYPES = {0: torch.float32, 1: torch.float16, 28: torch.float64, 30: torch.bfloat16}
"""Plain tensors, by their type in a header."""

BLOCKS = {
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
}
"""Quantised tensors: the name of their type, weights and bytes in a block."""

ORIGINAL_SHAPE = "comfy.gguf.orig_shape."
"""The key, before the tensor's name, of a shape that ComfyUI's converter has changed."""

SLICE_BYTES = 2**18
"""Quantised bytes that are turned into numbers at once: more are slower, beyond the CPU's cache."""


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in the file, and how."""

    kind: int
    offset: int
    size: int
    """In bytes."""


class GgufFile:
    """The tensors of a GGUF file under its names; quantised ones are float32 when they are read.

    Creating one reads the header alone. Raises PipelineLoadFailed if the file, or later a tensor,
    cannot be read.
    """

    container = "GGUF"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info: dict[str, TensorInfo] = {}
        self._places: dict[str, Place] = {}
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                self._read_header(Cursor(file, min(size, MAX_HEADER_BYTES)), size)
        except OSError as error:
            raise PipelineLoadFailed(f"{path} cannot be read: {error}") from error
        except ValueError as error:
            raise PipelineLoadFailed(
                f"{path} cannot be read: its header is not a valid GGUF header: {error}"
            ) from error

    def read(self, name: str) -> Tensor:
        """One tensor, in memory of its own."""
        place = self._places[name]
        shape = self.info[name].shape
        if not place.size:
            return torch.empty(shape, dtype=self.info[name].dtype)
        if not self.info[name].complete:
            raise PipelineLoadFailed(f"{self.path}: {name} cannot be read: the file ends before it")
        try:
            with self.path.open("rb") as file:
                file.seek(place.offset)
                if place.kind in DTYPES:
                    return torch.frombuffer(
                        _take(file, place.size), dtype=DTYPES[place.kind]
                    ).reshape(shape)
                return _dequantised(file, place).reshape(shape)
        except OSError as error:
            raise PipelineLoadFailed(f"{self.path}: {name} cannot be read: {error}") from error

    def _read_header(self, cursor: Cursor, file_size: int) -> None:
        tensor_count, fields = _read_fields(cursor)
        tensors = [_read_tensor(cursor) for _ in range(tensor_count)]
        alignment = fields.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment not in (2**power for power in range(21)):
            raise ValueError(f"the alignment is {alignment}, which is no power of two")
        begin = cursor.position + -cursor.position % alignment
        for name, lengths, kind, offset in tensors:
            if name in self.info:
                raise ValueError(f"{name} comes twice")
            try:
                place = _place(lengths, kind, begin + offset)
                shape = _shape(lengths, fields.get(ORIGINAL_SHAPE + name))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            dtype = DTYPES.get(kind, torch.float32)
            rounding = BLOCKS[kind][0] if kind in BLOCKS else ""
            complete = place.offset + place.size <= file_size
            self.info[name] = TensorInfo(shape, dtype, complete, rounding)
            self._places[name] = place
        _check_apart(self._places)


class Cursor:
    """Reads a header from its beginning to `limit` and no further: then it raises ValueError."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file = file
        self._limit = limit
        self.position = 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        self._advance(count)
        return self._file.read(count)

    def skip(self, count: int) -> None:
        """Leaves out the next bytes."""
        self._advance(count)
        self._file.seek(count, 1)

    def number(self, code: str) -> Any:
        """The next number, by its code of `struct`."""
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def text(self) -> str:
        """The next string, which is its length and UTF-8."""
        return self.take(self.number("Q")).decode()

    def _advance(self, count: int) -> None:
        if self.position + count > self._limit:
            raise ValueError(f"{count} bytes at {self.position} are beyond its end")
        self.position += count


def _read_fields(cursor: Cursor) -> tuple[int, dict[str, Any]]:
    """The number of tensors, and the fields by their keys."""
    if cursor.take(4) != MAGIC:
        raise ValueError("it does not begin with GGUF")
    version = cursor.number("I")
    if version not in VERSIONS:
        raise ValueError(f"version {version}; 2 and 3 of little-endian machines are read")
    tensor_count, field_count = cursor.number("Q"), cursor.number("Q")
    if max(tensor_count, field_count) > MAX_COUNT:
        raise ValueError(f"{tensor_count} tensors and {field_count} fields are too many")
    fields = {}
    for _ in range(field_count):
        key = cursor.text()
        if key in fields:
            raise ValueError(f"the field {key} comes twice")
        fields[key] = _read_value(cursor, cursor.number("I"))
    return tensor_count, fields


def _read_value(cursor: Cursor, kind: int) -> Any:
    """The value of a field; of an array of strings, which is a vocabulary, nothing."""
    if kind == STRING:
        return cursor.text()
    if kind != ARRAY:
        return cursor.number(_scalar(kind))
    item, count = cursor.number("I"), cursor.number("Q")
    if count > MAX_ITEMS:
        raise ValueError(f"an array of {count} items is too long")
    if item == STRING:
        for _ in range(count):
            cursor.skip(cursor.number("Q"))
        return None
    code = f"<{count}{_scalar(item)}"
    return struct.unpack(code, cursor.take(struct.calcsize(code)))


def _scalar(kind: int) -> str:
    if kind not in SCALARS:
        raise ValueError(f"a value of the type {kind} is neither a number nor a string")
    return SCALARS[kind]


def _read_tensor(cursor: Cursor) -> tuple[str, list[int], int, int]:
    """Name, lengths with the last axis last, type and offset of a tensor."""
    name = cursor.text()
    axes = cursor.number("I")
    if axes > MAX_AXES:
        raise ValueError(f"{name} has {axes} axes")
    lengths = [cursor.number("Q") for _ in range(axes)]
    return name, lengths[::-1], cursor.number("I"), cursor.number("Q")


def _place(lengths: list[int], kind: int, offset: int) -> Place:
    columns = lengths[-1] if lengths else 1
    elements = prod(checked_shape(lengths))
    if kind in DTYPES:
        return Place(kind, offset, elements * DTYPES[kind].itemsize)
    if kind not in BLOCKS:
        allowed = ", ".join(name for name, _, _ in BLOCKS.values())
        raise ValueError(f"its type is number {kind}; F32, F16, BF16, {allowed} are read")
    name, weights, block_bytes = BLOCKS[kind]
    if columns % weights:
        raise ValueError(f"rows of {columns} weights are no whole blocks of {name}")
    return Place(kind, offset, elements // weights * block_bytes)


def _shape(lengths: list[int], original: Any) -> torch.Size:
    """The shape of a tensor, by ComfyUI's field for it if there is one."""
    if original is None:
        return torch.Size(lengths)
    if not isinstance(original, tuple) or not all(type(each) is int for each in original):
        raise ValueError(f"its original shape is {original}")
    shape = checked_shape(original)
    if prod(shape) != prod(lengths):
        raise ValueError(f"its original shape {list(shape)} is not that of {lengths}")
    return shape


def _check_apart(places: dict[str, Place]) -> None:
    """Raises ValueError if two tensors overlap."""
    end = 0
    for name, place in sorted(places.items(), key=lambda item: (item[1].offset, item[1].size)):
        if place.offset < end:
            raise ValueError(f"{name} begins at byte {place.offset}, before {end}")
        end = place.offset + place.size


def _dequantised(file: BinaryIO, place: Place) -> Tensor:
    """The weights of a quantised tensor in a row, as float32, made a few blocks at a time."""
    import gguf
    import numpy as np

    _, weights, block_bytes = BLOCKS[place.kind]
    step = max(1, SLICE_BYTES // block_bytes)
    blocks = np.empty((place.size // block_bytes, weights), np.float32)
    for first in range(0, len(blocks), step):
        part = blocks[first : first + step]
        data = np.frombuffer(_take(file, len(part) * block_bytes), np.uint8).reshape(1, -1)
        numbers = gguf.dequantize(data, gguf.GGMLQuantizationType(place.kind))
        part[:] = numbers.reshape(part.shape)
    return torch.from_numpy(blocks)


def _take(file: BinaryIO, size: int) -> bytearray:
    data = bytearray(size)
    if file.readinto(data) < size:  # type: ignore[attr-defined]  # of BufferedReader
        raise OSError("the file ends before it")
    return data
