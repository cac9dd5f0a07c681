"""Models with random weights, drawn in memory: for measurements on machines without weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from farm.model.parts import build, float32_modules


class DrawnWeights(Mapping[str, Tensor]):
    """A model's weights by name, drawn anew whenever one is read, and always alike.

    They have the deviation that keeps a signal's. What has one dimension is left as it was built.
    """

    def __init__(self, model: Any, device: str) -> None:
        parameters = dict(model.named_parameters())
        self._device = device
        self._small = {name: each for name, each in parameters.items() if each.ndim < 2}
        self._drawn = {
            name: (each.shape, each.dtype) for name, each in parameters.items() if each.ndim > 1
        }

    def __getitem__(self, name: str) -> Tensor:
        if name in self._small:
            return self._small[name]
        shape, dtype = self._drawn[name]
        generator = torch.Generator(self._device).manual_seed(crc32(name.encode()))
        weight = torch.empty(shape, dtype=dtype, device=self._device)
        return weight.normal_(std=shape[1:].numel() ** -0.5, generator=generator)

    def __iter__(self) -> Iterator[str]:
        return iter({**self._small, **self._drawn})

    def __len__(self) -> int:
        return len(self._small) + len(self._drawn)


def draw_part(part: str, config: Mapping[str, Any], device: str, *, dtype: str) -> Any:
    """A part of full size for inference, in the dtypes in which `load_part` loads it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(device):
            model = build(part, config)
    finally:
        torch.set_default_dtype(before)
    in_float32 = set(float32_modules(part))
    for name, parameter in model.named_parameters():
        if in_float32 & set(name.split(".")):
            parameter.data = parameter.data.float()
    weights = DrawnWeights(model, device)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    return model.eval().requires_grad_(False)
