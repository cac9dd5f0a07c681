"""InfiniteTalk's published eight-bit files, which optimum-quanto wrote, read as plain tensors.

Of a rounded linear `x` they hold `x.weight._data` (int8 or float8, [out, in]), `x.weight._scale` ([out, 1]) and the
scales of its input and output, which are 1 where activations were left alone. The map beside them (`.json`) says
nothing that the tensors do not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from farm.errors import PipelineLoadFailed
from farm.model.weights.tensorfile import Listed, TensorFile

DATA = "._data"
SCALE = "._scale"
SHIFT = "._shift"
ACTIVATIONS = (".input_scale", ".output_scale")
EIGHT_BITS = (torch.int8, torch.float8_e4m3fn, torch.float8_e5m2)


def plain(file: TensorFile) -> TensorFile:
    """The file, or if it holds rounded weights, what they were rounded from."""
    return Rounded(file) if any(name.endswith(DATA) for name in file.listed) else file


class Rounded:
    """The tensors of such a file under the names that they had before; rounded ones are multiplied out when read.

    Raises PipelineLoadFailed, naming the tensor, for fewer than eight bits, for a weight without its scale, and for
    activations that were rounded by fixed scales: those are part of the model, and no plain weight can hold them.
    """

    def __init__(self, file: TensorFile) -> None:
        self.path = file.path
        self._file = file
        for name in file.listed:
            self._check(name)
        kept = {
            name: each
            for name, each in file.listed.items()
            if not name.endswith((DATA, SCALE, *ACTIVATIONS))
        }
        data = {
            name.removesuffix(DATA): each
            for name, each in file.listed.items()
            if name.endswith(DATA)
        }
        self.listed = kept | {
            name: Listed(each.shape, torch.float32, each.whole) for name, each in data.items()
        }

    def read(self, name: str) -> Tensor:
        """A tensor that was rounded is float32."""
        if name + DATA not in self._file.listed:
            return self._file.read(name)
        return self._file.read(name + DATA).float() * self._file.read(name + SCALE).float()

    def _check(self, name: str) -> None:
        where = f"{self.path.name}: {name}"
        listed = self._file.listed
        if name.endswith(SHIFT):
            raise PipelineLoadFailed(f"{where}: weights in fewer than eight bits cannot be read")
        if name.endswith(DATA) and listed[name].dtype not in EIGHT_BITS:
            raise PipelineLoadFailed(
                f"{where} is {listed[name].dtype}; int8 and float8 can be read"
            )
        if name.endswith(DATA) and name.removesuffix(DATA) + SCALE not in listed:
            raise PipelineLoadFailed(f"{where} lacks its scale")
        if name.endswith(ACTIVATIONS) and not bool((self._file.read(name) == 1).all()):
            raise PipelineLoadFailed(
                f"{where} is {self._file.read(name).tolist()}: its activations were rounded too"
            )
