"""Files that torch.save wrote: `.pth`, `.pt`, `.bin`."""

from __future__ import annotations

import pickle
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from farm.errors import PipelineLoadFailed
from farm.model.weights.tensorfile import REMAP_AFTER_BYTES, TensorInfo


class PickleFile:
    """The tensors of a pickle, of which torch reads tensors and refuses everything else.

    Raises PipelineLoadFailed if there is anything else in it, or if it is damaged.
    """

    container = "pickle"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tensors = _load(path)
        self._bytes_read = 0
        self.info = {
            name: TensorInfo(tensor.shape, tensor.dtype) for name, tensor in self._tensors.items()
        }

    def read(self, name: str) -> Tensor:
        """One tensor, mapped from the file."""
        size = self.info[name].size
        if self._bytes_read + size > REMAP_AFTER_BYTES:
            self._tensors = _load(self.path)
            self._bytes_read = 0
        self._bytes_read += size
        return self._tensors[name]


def _load(path: Path) -> dict[str, Tensor]:
    """A state dict; only torch's own reader of tensors ever sees the pickle."""
    try:
        with _plain_name(path) as plain:
            tensors = torch.load(
                plain, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except (
        pickle.UnpicklingError,
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
    ) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[0].split(". ")[0]  # torch's next sentence is how to load it nevertheless
        raise PipelineLoadFailed(
            f"{path} is refused: it is damaged, or holds more than tensors ({reason})"
        ) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(each, Tensor) for each in tensors.values()
    ):
        raise PipelineLoadFailed(f"{path} is refused: it is not a dict of named tensors")
    return tensors


@contextmanager
def _plain_name(path: Path) -> Iterator[Path]:
    """A path of the file that does not make torch take it for another format by its ending."""
    if path.suffix != ".safetensors":
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "weights.pth"
        plain.symlink_to(path.resolve())
        yield plain
