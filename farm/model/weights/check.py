"""Whether a checkpoint fits its model: every tensor's name and shape, from headers alone, before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from farm.errors import PipelineLoadFailed
from farm.model.parts import shapes, skeleton, stem
from farm.model.presets import Preset
from farm.model.weights.tensorfile import Listed, opened, shards

SHOWN = 3
"""Tensors of a kind that an error names; the rest are counted."""


def check(folder: Path, preset: Preset) -> dict[str, tuple[int, int]]:
    """Tensors and bytes of each part of a preset's folder.

    Raises PipelineLoadFailed that names every faulty part, with what its tensors and its configuration differ in.
    """
    if not folder.is_dir():
        raise PipelineLoadFailed(f"{folder} is missing; {preset.remedy}")
    found = {}
    faults = []
    for part, config in preset.parts.items():
        try:
            listed = check_part(folder, part)
            _check_config(folder / part, config)
            found[part] = len(listed), sum(each.size for each in listed.values())
        except PipelineLoadFailed as error:
            faults.append(error.message)
    if not (folder / "tokenizer").is_dir():
        faults.append(f"{folder / 'tokenizer'} is missing")
    if faults:
        raise PipelineLoadFailed("; ".join(faults))
    return found


def check_part(folder: Path, part: str) -> dict[str, Listed]:
    """The tensors of one part, which are those that its configuration asks for; PipelineLoadFailed if they are not."""
    try:
        config = {
            name: value
            for name, value in _config(folder / part).items()
            if not name.startswith("_")
        }
        listed: dict[str, Listed] = {}
        for path in shards(folder / part, stem(part)):
            listed |= opened(path).listed
        wanted = shapes(skeleton(part, config))
        if wrong := differences(wanted, listed):
            raise PipelineLoadFailed(wrong)
    except (PipelineLoadFailed, OSError, TypeError, ValueError) as error:
        raise PipelineLoadFailed(f"{folder / part} cannot be loaded: {error}") from error
    return listed


def differences(
    wanted: Mapping[str, torch.Size],
    found: Mapping[str, Listed],
    *,
    spoken: Callable[[str], str] = str,
) -> str:
    """What a checkpoint and a model do not agree in, as one sentence; empty if all is well.

    `spoken` says what the reader knows a tensor by.
    """

    def differs(name: str) -> bool:
        return name in wanted and found[name].shape != wanted[name]

    kinds = {
        "missing": [spoken(name) for name in wanted if name not in found],
        "unexpected": [spoken(name) for name in found if name not in wanted],
        "mismatched": [
            f"{spoken(name)} is {list(found[name].shape)}, {list(wanted[name])} is wanted"
            for name in found
            if differs(name)
        ],
        "truncated": [spoken(name) for name in found if not found[name].whole],
    }
    return "; ".join(_told(kind, names) for kind, names in kinds.items() if names)


def _told(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {kind} tensor{'s' if len(names) > 1 else ''}: {', '.join(names[:SHOWN])}{more}"


def _check_config(folder: Path, wanted: Mapping[str, Any]) -> None:
    """Refuses a part that fits its own configuration, which is not the preset's."""
    config = _config(folder)
    for name, value in wanted.items():
        if config.get(name, value) != value:
            raise PipelineLoadFailed(
                f"{folder / 'config.json'} says {name} {config[name]}; the model has {value}"
            )


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise PipelineLoadFailed(f"{file} is missing") from error
    except ValueError as error:
        raise PipelineLoadFailed(f"{file} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise PipelineLoadFailed(f"{file} holds no configuration")
    return config
