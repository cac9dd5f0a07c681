"""Tensors as they lie on disk: safetensors files, memory-mapped, so that only what is asked for is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from farm.errors import PipelineLoadFailed


class StoredTensors(Mapping[str, Tensor]):
    """The tensors of some files by name, each read anew whenever it is asked for."""

    def __init__(self, *files: Path) -> None:
        self._files: dict[str, Any] = {}
        for path in files:
            opened = _opened(path)
            self._files |= dict.fromkeys(opened.keys(), opened)

    def __getitem__(self, name: str) -> Tensor:
        return self._files[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, from the file's header alone."""
        return tuple(self._files[name].get_slice(name).get_shape())


def stored_part(folder: Path, part: str) -> StoredTensors:
    """What a checkpoint folder holds of one part, in however many files."""
    return StoredTensors(*sorted((folder / part).glob("*.safetensors")))


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise PipelineLoadFailed(f"{path} cannot be read: {error}") from error
