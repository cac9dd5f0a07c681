"""InfiniteTalk's published eight-bit files, which optimum-quanto wrote, read as plain tensors.

Of a rounded linear `x` they hold `x.weight._data` (int8 or float8, [out, in]), `x.weight._scale` ([out, 1]) and the
scales of its input and output, which are 1 where activations were left alone. The map beside them (`.json`) says
nothing that the tensors do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from farm.errors import PipelineLoadFailed

DATA, SCALE, SHIFT = "._data", "._scale", "._shift"
ACTIVATIONS = (".input_scale", ".output_scale")
EIGHT_BITS = (torch.int8, torch.float8_e4m3fn, torch.float8_e5m2)


class PlainTensors(Mapping[str, Tensor]):
    """The tensors of such a file under the names that they had before; rounded ones are multiplied out when asked for.

    Raises PipelineLoadFailed, naming the tensor, for fewer than eight bits, for a weight without its scale, and for
    activations that were rounded by fixed scales: those are part of the model, and no plain weight can hold them.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        for name in tensors:
            self._check(name)
        rounded = [name.removesuffix(DATA) for name in tensors if name.endswith(DATA)]
        plain = [name for name in tensors if not name.endswith((DATA, SCALE, *ACTIVATIONS))]
        self._names = dict.fromkeys((*plain, *rounded))

    def __getitem__(self, name: str) -> Tensor:
        """A tensor that was rounded is float32."""
        if name + DATA not in self._tensors:
            return self._tensors[name]
        data = self._tensors[name + DATA]
        if data.dtype not in EIGHT_BITS:
            raise PipelineLoadFailed(f"{name}{DATA} is {data.dtype}; int8 and float8 can be read")
        return data.float() * self._tensors[name + SCALE].float()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _check(self, name: str) -> None:
        if name.endswith(SHIFT):
            raise PipelineLoadFailed(f"{name}: weights in fewer than eight bits cannot be read")
        if name.endswith(DATA) and name.removesuffix(DATA) + SCALE not in self._tensors:
            raise PipelineLoadFailed(f"{name} lacks its scale")
        if name.endswith(ACTIVATIONS) and not bool((self._tensors[name] == 1).all()):
            raise PipelineLoadFailed(f"{name} is {self._tensors[name].tolist()}: its activations were rounded too")
