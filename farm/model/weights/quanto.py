"""InfiniteTalk's quantised files, which optimum-quanto wrote, read as plain tensors.

Of a quantised linear `x` they hold `x.weight._data` (int8 or float8, [out, in]), `x.weight._scale`
([out, 1]) and the scales of its input and output, which are 1 where activations were left alone.
The map beside them (`.json`) adds nothing to the tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from farm.errors import PipelineLoadFailed
from farm.model.weights.tensorfile import TensorFile, TensorInfo

DATA = "._data"
SCALE = "._scale"
SHIFT = "._shift"
ACTIVATIONS = (".input_scale", ".output_scale")
ROUNDINGS = {
    torch.int8: "int8 of quanto",
    torch.float8_e4m3fn: "fp8 e4m3 of quanto",
    torch.float8_e5m2: "fp8 e5m2 of quanto",
}


def is_quantised(file: TensorFile) -> bool:
    """Whether optimum-quanto wrote the file."""
    return any(name.endswith(DATA) for name in file.info)


class DequantisedFile:
    """The tensors of a quantised file under their original names, dequantised when read.

    Raises PipelineLoadFailed, naming the tensor, for fewer than eight bits, for a weight without
    its scale, and for activations with fixed scales: those are part of the model, and no plain
    weight can hold them.
    """

    def __init__(self, file: TensorFile) -> None:
        self.path = file.path
        self.container = file.container
        self._file = file
        self.info: dict[str, TensorInfo] = {}
        for name, info in file.info.items():
            self._check(name)
            if name.endswith(DATA):
                rounding = ROUNDINGS[info.dtype]
                plain = TensorInfo(info.shape, torch.float32, info.complete, rounding)
                self.info[name.removesuffix(DATA)] = plain
            elif not name.endswith((SCALE, *ACTIVATIONS)):
                self.info[name] = info

    def read(self, name: str) -> Tensor:
        """One tensor; a dequantised one is float32."""
        if name + DATA not in self._file.info:
            return self._file.read(name)
        return self._file.read(name + DATA).float() * self._file.read(name + SCALE).float()

    def _check(self, name: str) -> None:
        where = f"{self.path.name}: {name}"
        if name.endswith(SHIFT):
            raise PipelineLoadFailed(f"{where}: weights in fewer than eight bits cannot be read")
        if name.endswith(DATA):
            self._check_data(name, where)
        if name.endswith(ACTIVATIONS) and not bool((self._file.read(name) == 1).all()):
            scale = self._file.read(name).tolist()
            raise PipelineLoadFailed(f"{where} is {scale}: its activations are quantised too")

    def _check_data(self, name: str, where: str) -> None:
        dtype = self._file.info[name].dtype
        if dtype not in ROUNDINGS:
            raise PipelineLoadFailed(f"{where} is {dtype}; int8 and float8 can be read")
        if name.removesuffix(DATA) + SCALE not in self._file.info:
            raise PipelineLoadFailed(f"{where} lacks its scale")
