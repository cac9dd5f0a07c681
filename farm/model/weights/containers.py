"""Which container a file is, by its first bytes, and the tensors in it."""

from __future__ import annotations

import zipfile
from pathlib import Path

from farm.errors import PipelineLoadFailed
from farm.model.weights.gguf_file import MAGIC, GgufFile
from farm.model.weights.pickle_file import PickleFile
from farm.model.weights.quanto import DequantisedFile, is_quantised
from farm.model.weights.scaled import ScaledFile, is_scaled
from farm.model.weights.tensorfile import (
    MAX_HEADER_BYTES,
    REMAP_AFTER_BYTES,
    SafetensorsFile,
    TensorFile,
)

ZIP = b"PK\x03\x04"
OLD_PICKLES = tuple(bytes([0x80, protocol]) for protocol in (2, 3, 4, 5))


def container(path: Path) -> str | None:
    """What a file is by its first bytes: safetensors, GGUF, pickle; None if it is none of them.

    OSError if it cannot be read.
    """
    with path.open("rb") as file:
        first = file.read(9)
    # The length of a header may begin with the bytes of any other container.
    if first[8:] == b"{" and int.from_bytes(first[:8], "little") <= MAX_HEADER_BYTES:
        return SafetensorsFile.container
    if first[:4] == MAGIC:
        return GgufFile.container
    if first[:4] == ZIP:
        return PickleFile.container if _holds_pickle(path) else None
    return PickleFile.container if first[:2] in OLD_PICKLES else None


def open_tensors(path: Path) -> TensorFile:
    """A file of tensors; PipelineLoadFailed if it is missing, none, or cannot be read."""
    if not path.is_file():
        raise PipelineLoadFailed(f"{path} is missing")
    try:
        found = container(path)
    except OSError as error:
        raise PipelineLoadFailed(f"{path} cannot be read: {error}") from error
    if found == GgufFile.container:
        return GgufFile(path)
    if found == PickleFile.container:
        return PickleFile(path)
    if found is None:
        raise PipelineLoadFailed(
            f"{path} cannot be read: it is empty, truncated, or neither a safetensors file, "
            "a GGUF nor a pickle of tensors"
        )
    return SafetensorsFile(path, remap_after_bytes=REMAP_AFTER_BYTES)


def open_weights(path: Path) -> TensorFile:
    """A file of weights as plain ones, under their own names, however they are rounded in it.

    PipelineLoadFailed also for roundings that cannot be read.
    """
    file = open_tensors(path)
    if is_quantised(file):
        return DequantisedFile(file)
    return ScaledFile(file) if is_scaled(file) else file


def _holds_pickle(path: Path) -> bool:
    """Whether a zip is torch's; one that is cut short may be."""
    if not zipfile.is_zipfile(path):
        return True
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("data.pkl") for name in archive.namelist())
