"""ComfyUI's files of scaled float8 weights, read as plain tensors.

Of a linear `x` they hold `x.weight` in float8 and its scale, `x.scale_weight` or, in newer files,
`x.weight_scale`: one number, or one for each row. `scaled_fp8` marks a file of the older kind; in
the newer one `x.comfy_quant` has the format as JSON, or the header has those of all. Scales of a
linear's input only serve its computation in float8, and are left out.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from farm.errors import PipelineLoadFailed
from farm.model.weights.tensorfile import TensorFile, TensorInfo

MARKER = "scaled_fp8"
SCALES = (".scale_weight", ".weight_scale")
FORMAT = ".comfy_quant"
UNUSED = (".scale_input", ".input_scale", FORMAT)
SECOND_SCALE = ".weight_scale_2"
FORMATS = "_quantization_metadata"
"""In the header."""

FLOAT8 = {torch.float8_e4m3fn: "fp8 e4m3", torch.float8_e5m2: "fp8 e5m2"}
READ_FORMATS = ("float8_e4m3fn", "float8_e5m2")
MAX_FORMAT_BYTES = 10_000


def is_scaled(file: TensorFile) -> bool:
    """Whether a file has scales, or says that it should have."""
    ends = (*SCALES, FORMAT, SECOND_SCALE)
    return any(name == MARKER or name.endswith(ends) for name in file.info)


class ScaledFile:
    """The tensors of a scaled file under their own names, multiplied by their scales when read.

    Raises PipelineLoadFailed, naming the tensor, for a float8 weight without a scale, a scale
    without its weight or of another shape than those above, and every other format.
    """

    def __init__(self, file: TensorFile) -> None:
        self.path = file.path
        self.container = file.container
        self._file = file
        self._scales = {name: scale for name in file.info for scale in self._scales_of(name)}
        self._check_formats()
        self.info: dict[str, TensorInfo] = {}
        for name, info in file.info.items():
            if name == MARKER or name.endswith((*SCALES, *UNUSED)):
                self._check_scale(name)
            else:
                self.info[name] = self._plain(name, info)

    def read(self, name: str) -> Tensor:
        """One tensor; one that has a scale is float32."""
        tensor = self._file.read(name)
        if name not in self._scales:
            return tensor
        scale = self._file.read(self._scales[name]).float()
        return tensor.float() * scale.reshape(-1, *[1] * (tensor.ndim - 1))

    def _scales_of(self, name: str) -> list[str]:
        """The scale of a tensor, if it has one; in a list."""
        module = name.removesuffix(".weight")
        return [
            module + end for end in SCALES if name != module and module + end in self._file.info
        ]

    def _plain(self, name: str, info: TensorInfo) -> TensorInfo:
        if name.endswith(SECOND_SCALE):
            self._refuse(name, "weights in four bits cannot be read")
        if name not in self._scales:
            if info.dtype in FLOAT8:
                self._refuse(name, "it lacks its scale, which other weights of the file have")
            return info
        if not info.dtype.is_floating_point:
            self._refuse(name, f"{info.dtype} with a scale cannot be read, only float8")
        scale = self._file.info[self._scales[name]].shape
        if scale.numel() != 1 and tuple(scale) not in (info.shape[:1], (*info.shape[:1], 1)):
            self._refuse(
                name, f"its scale is {list(scale)}; one number, or one for each row, is read"
            )
        rounding = f"{FLOAT8[info.dtype]} with scales" if info.dtype in FLOAT8 else ""
        return TensorInfo(info.shape, torch.float32, info.complete, rounding)

    def _check_scale(self, name: str) -> None:
        if name.endswith(SCALES) and name not in self._scales.values():
            self._refuse(name, "the weight that it scales is not in the file")

    def _check_formats(self) -> None:
        """Refuses formats of ComfyUI in which a scale is not all there is to do."""
        for name, info in self._file.info.items():
            if name.endswith(FORMAT):
                if info.size > MAX_FORMAT_BYTES or info.dtype != torch.uint8:
                    self._refuse(name, f"{info.size} bytes of {info.dtype} are no format")
                self._check_format(name, bytes(self._file.read(name).flatten().tolist()))
        text = getattr(self._file, "metadata", {}).get(FORMATS)
        if text is not None:
            layers = self._parse(FORMATS, text).get("layers")
            for name, each in layers.items() if isinstance(layers, dict) else ():
                self._check_format(name, json.dumps(each))

    def _check_format(self, name: str, text: str | bytes) -> None:
        fields = self._parse(name, text)
        rotated = fields.get("convrot", False)
        if fields.get("format") not in READ_FORMATS or rotated:
            self._refuse(name, f"the format {fields} cannot be read; {', '.join(READ_FORMATS)} can")

    def _parse(self, name: str, text: str | bytes) -> dict[str, Any]:
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            self._refuse(name, f"it is not JSON: {error}")
        if not isinstance(fields, dict):
            self._refuse(name, "it is no format")
        return dict(fields)

    def _refuse(self, name: str, reason: str) -> None:
        raise PipelineLoadFailed(f"{self.path.name}: {name}: {reason}")
