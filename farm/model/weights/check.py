"""Whether a checkpoint fits its model: every tensor's name and shape, from headers alone.

And whether it was converted from the commits that are locked. Nothing is loaded before this check
has passed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from farm.errors import PipelineLoadFailed
from farm.model.parts import EXTRA_FILES, skeleton, tensor_shapes, weights_stem
from farm.model.weights.lock import lock_file, read_lock
from farm.model.weights.sources import read_sources
from farm.model.weights.tensorfile import SafetensorsFile, TensorInfo, shard_paths
from farm.presets import Preset

MAX_NAMED = 3
"""Tensors of a kind that an error names; the rest are counted."""


def check(folder: Path, preset: Preset) -> dict[str, tuple[int, int]]:
    """Tensors and bytes of each part of a preset's folder.

    Raises PipelineLoadFailed that names every faulty part, with what its tensors and its
    configuration differ in.
    """
    if not folder.is_dir():
        raise PipelineLoadFailed(f"{folder} is missing; {preset.remedy}")
    sizes = {}
    missing = preset.missing_parts(folder)
    faults = [f"{folder / part} is missing" for part in missing] + _source_faults(folder, preset)
    for part, config in preset.parts.items():
        if part in missing:
            continue
        try:
            info = check_part(folder, part)
            _check_config(folder / part, config)
            sizes[part] = len(info), sum(each.size for each in info.values())
        except PipelineLoadFailed as error:
            faults.append(error.message)
    if faults:
        raise PipelineLoadFailed("; ".join(faults))
    return sizes


def _source_faults(folder: Path, preset: Preset) -> list[str]:
    """A sentence for each source whose commit is not the locked one."""
    file = lock_file(folder.parent, preset)
    lock = read_lock(file)
    return [
        f"{folder} was converted from {source.repository} at {source.commit}; {file} has "
        f"{lock[source.repository].commit}: convert it again"
        for source in read_sources(folder / "sources.json").values()
        if source.repository in lock and source.commit != lock[source.repository].commit
    ]


def check_part(folder: Path, part: str) -> dict[str, TensorInfo]:
    """The tensors of one part, which are exactly those that its configuration asks for.

    Raises PipelineLoadFailed if they are not.
    """
    try:
        config = {
            name: value
            for name, value in _read_config(folder / part).items()
            if not name.startswith("_")
        }
        check_extra_files(folder / part, part)
        found: dict[str, TensorInfo] = {}
        for path in shard_paths(folder / part, weights_stem(part)):
            if not path.is_file():
                raise PipelineLoadFailed(f"{path} is missing")
            found |= SafetensorsFile(path).info
        faults = differences(tensor_shapes(skeleton(part, config)), found)
        if faults:
            raise PipelineLoadFailed(faults)
    except (PipelineLoadFailed, OSError, TypeError, ValueError) as error:
        raise PipelineLoadFailed(f"{folder / part} cannot be loaded: {error}") from error
    return found


def check_extra_files(folder: Path, part: str) -> None:
    """Raises PipelineLoadFailed if a part's folder lacks a file that it needs besides weights."""
    for name in EXTRA_FILES.get(part, ()):
        if not (folder / name).is_file():
            raise PipelineLoadFailed(f"{folder / name} is missing; it comes with the weights")


def differences(
    expected: Mapping[str, torch.Size],
    found: Mapping[str, TensorInfo],
    *,
    describe: Callable[[str], str] = str,
) -> str:
    """The differences between a checkpoint and a model as one sentence; empty if there are none.

    `describe` turns the model's name of a tensor into the one that the reader knows.
    """
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    mismatched = [
        name for name in found if name in expected and found[name].shape != expected[name]
    ]
    truncated = [name for name in found if not found[name].complete]
    faults = {
        "missing": [describe(name) for name in missing],
        "unexpected": [describe(name) for name in unexpected],
        "mismatched": [
            f"{describe(name)} is {list(found[name].shape)} instead of {list(expected[name])}"
            for name in mismatched
        ],
        "truncated": [describe(name) for name in truncated],
    }
    return "; ".join(_summary(kind, names) for kind, names in faults.items() if names)


def _summary(kind: str, names: list[str]) -> str:
    noun = "tensor" if len(names) == 1 else "tensors"
    summary = f"{len(names)} {kind} {noun}: {', '.join(names[:MAX_NAMED])}"
    if len(names) > MAX_NAMED:
        summary += f" and {len(names) - MAX_NAMED} more"
    return summary


def _check_config(folder: Path, expected: Mapping[str, Any]) -> None:
    """Refuses a part that fits its own configuration, which is not the preset's."""
    config = _read_config(folder)
    for name, value in expected.items():
        if config.get(name, value) != value:
            raise PipelineLoadFailed(
                f"{folder / 'config.json'} says {name} {config[name]}; the model has {value}"
            )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise PipelineLoadFailed(f"{path} is missing") from error
    except (ValueError, RecursionError) as error:
        raise PipelineLoadFailed(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise PipelineLoadFailed(f"{path} holds no configuration")
    return config
