"""Where weights are published."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest
import torch

from farm.model.parts import float32_modules, skeleton, tensor_shapes
from farm.model.weights.published import PUBLISHED, Repository
from farm.presets import PRESETS

REPOSITORIES = [
    pytest.param(repository, id=f"{preset}-{origin}-{speakers}-{role}")
    for preset, published in PUBLISHED.items()
    for origin, by_speakers in published.origins.items()
    for speakers, needs in by_speakers.items()
    for role, repository in needs.items()
]


@pytest.mark.parametrize("repository", REPOSITORIES)
def test_every_repository_is_pinned(repository: Repository) -> None:
    assert re.fullmatch("[0-9a-f]{40}", repository.commit)
    assert all(re.fullmatch("[0-9a-f]{64}", each) for each in repository.files.values() if each)
    assert len({PurePosixPath(file).parent for file in repository.files} - {PurePosixPath()}) <= 1


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name in PRESETS])
def test_the_size_of_a_conversion_is_that_of_its_tensors(name: str) -> None:
    preset = PRESETS[name]
    size = 0
    for part, config in preset.parts.items():
        keeps_float32 = float32_modules(part)
        width = getattr(torch, preset.dtype_of(part)).itemsize
        for tensor, shape in tensor_shapes(skeleton(part, config)).items():
            is_float32 = any(module in tensor.split(".") for module in keeps_float32)
            size += shape.numel() * (4 if is_float32 else width)
    assert size < PUBLISHED[name].converted_bytes < size * 1.003
