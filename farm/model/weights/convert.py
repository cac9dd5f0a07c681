"""Weights as they are published, in any container and naming, into one folder in diffusers' layout.

Everything is planned and compared with the model from the files' headers before the first byte is
written; then one tensor after the other is read, renamed, cast to the dtype that it will be loaded
in, and written.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from farm.errors import InvalidInput, PipelineLoadFailed
from farm.model.parts import (
    EXTRA_FILES,
    float32_modules,
    save_config,
    skeleton,
    tensor_shapes,
    weights_stem,
)
from farm.model.weights.check import MAX_NAMED, check_extra_files, differences
from farm.model.weights.folder import atomic_folder
from farm.model.weights.naming import Naming
from farm.model.weights.rounding import cost
from farm.model.weights.selection import Chosen, Selection, select, where
from farm.model.weights.sources import Source, write_sources
from farm.model.weights.tensorfile import Entry, TensorFile, TensorInfo, write_shards
from farm.presets import Preset

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "spiece.model",
)

SHARD_BYTES = 5_000_000_000

Report = Callable[[str, int, int], None]
"""`report(part, done, total)` in bytes of the whole folder."""


@dataclass
class Meter:
    """Reports the progress of a conversion."""

    report: Report
    total: int
    done: int = 0

    def __call__(self, part: str, entry: Entry) -> None:
        self.done += entry.info.size
        self.report(part, self.done, self.total)


@dataclass(frozen=True)
class SourceTensor:
    """The published tensor that one of the model's is read from."""

    role: str
    file: TensorFile
    naming: Naming
    name: str
    info: TensorInfo
    """As it comes out under its diffusers name."""

    def read(self, diffusers_name: str, dtype: torch.dtype) -> Tensor:
        """The model's tensor."""
        stored = {self.name: self.file.read(self.name)}
        return self.naming.to_diffusers(stored)[diffusers_name].to(dtype)


@dataclass(frozen=True)
class Plan:
    """What is written of a part."""

    model: Any
    """Its skeleton."""
    entries: list[Entry]
    extra_files: list[Path]
    costs: Mapping[str, str]
    """What the rounding of a source costs, by its role."""

    @property
    def size(self) -> int:
        """Of the tensors, in bytes."""
        return sum(entry.info.size for entry in self.entries)


def convert(
    preset: Preset,
    root: Path,
    sources: Mapping[str, Source],
    *,
    report: Report,
    print_line: Callable[[str], None] = lambda line: None,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """The preset's folder under `root`, made of sources by role, and of what lies in all others.

    `print_line` is told what each part is taken from. Raises InvalidInput if the folder exists, and
    PipelineLoadFailed, before anything is written, with a sentence for each part that is missing,
    ambiguous or does not fit the model.
    """
    folder = preset.folder(root)
    if folder.exists():
        raise InvalidInput(f"{folder} exists; remove it, or set FARM_WEIGHTS to another folder")
    selection = select(preset, sources)
    plans = _plans(preset, selection)
    if selection.faults or selection.tokenizer is None:
        raise PipelineLoadFailed("; ".join(selection.faults))
    for line in _taken(selection):
        print_line(line)
    meter = Meter(report, sum(plan.size for plan in plans.values()))
    try:
        with atomic_folder(folder) as temporary:
            _check_disk_space(temporary, meter.total)
            _copy_tokenizer(selection.tokenizer, temporary / "tokenizer")
            write_sources(temporary / "sources.json", _recorded(selection, plans))
            for part, plan in plans.items():
                _write_part(part, plan, temporary / part, partial(meter, part), shard_bytes)
    except OSError as error:
        raise PipelineLoadFailed(f"{folder} cannot be written: {error}") from error
    return folder


def _recorded(selection: Selection, plans: Mapping[str, Plan]) -> dict[str, Source]:
    """What is taken, by role, with what its rounding costs."""
    costs = {role: cost for plan in plans.values() for role, cost in plan.costs.items()}
    return {
        role: replace(source, rounding=costs.get(role)) for role, source in selection.roles.items()
    }


def _write_part(
    part: str, plan: Plan, folder: Path, on_written: Callable[[Entry], None], shard_bytes: int
) -> None:
    save_config(part, plan.model, folder)
    for file in plan.extra_files:
        shutil.copy(file, folder)
    write_shards(
        folder, weights_stem(part), plan.entries, shard_bytes=shard_bytes, on_written=on_written
    )


def _taken(selection: Selection) -> Iterator[str]:
    """A line for each role: what is taken."""
    for pieces in selection.parts.values():
        for piece in pieces:
            yield f"{piece.candidate.path}: {piece.candidate.identity}"
    yield f"{selection.tokenizer}: the tokenizer"


def _plans(preset: Preset, selection: Selection) -> dict[str, Plan]:
    """A plan for each part that fits the model; the faults of others go to the selection."""
    plans = {}
    for part, config in preset.parts.items():
        if part in selection.incomplete:
            continue
        pieces = selection.parts[part]
        try:
            plans[part] = _plan(preset, part, pieces, skeleton(part, config))
        except PipelineLoadFailed as error:
            selection.faults.append(f"{part}: {error.message}; {where(part, preset)}")
    return plans


def _plan(preset: Preset, part: str, pieces: list[Chosen], model: Any) -> Plan:
    """What to write of a part, checked to be exactly the model's tensors."""
    folder = pieces[0].candidate.files[0].path.parent
    check_extra_files(folder, part)
    tensors = {name: tensor for piece in pieces for name, tensor in _source_tensors(piece).items()}
    _check_tensors(part, pieces, tensors, model)
    dtypes = {
        name: _stored_dtype(part, name, tensor.info.dtype, preset.dtype_of(part))
        for name, tensor in tensors.items()
    }
    entries = [
        Entry(
            name,
            TensorInfo(tensor.info.shape, dtypes[name]),
            partial(tensor.read, name, dtypes[name]),
        )
        for name, tensor in tensors.items()
    ]
    costs = {}
    for piece in pieces:
        mine = [name for name, tensor in tensors.items() if tensor.role == piece.role]
        rounding = cost((tensors[name].info, dtypes[name]) for name in mine)
        if rounding:
            costs[piece.role] = rounding
    return Plan(model, entries, [folder / name for name in EXTRA_FILES.get(part, ())], costs)


def _source_tensors(piece: Chosen) -> dict[str, SourceTensor]:
    """The source of each of the model's tensors in some weights, by its diffusers name."""
    tensors = {}
    naming = piece.candidate.naming
    for file in piece.candidate.files:
        for name, info in file.info.items():
            for renamed, like in naming.to_diffusers({name: info.meta_tensor()}).items():
                found = replace(info, shape=like.shape)
                tensors[renamed] = SourceTensor(piece.role, file, naming, name, found)
    return tensors


def _check_tensors(
    part: str, pieces: list[Chosen], tensors: Mapping[str, SourceTensor], model: Any
) -> None:
    """PipelineLoadFailed unless the tensors are the model's: names, shapes, kinds of numbers."""

    def describe(name: str) -> str:
        """A tensor by the name that it has, or should have, in the published files."""
        if name not in tensors:
            return pieces[0].candidate.naming.to_original(name)
        return f"{tensors[name].name} in {tensors[name].file.path.name}"

    expected = tensor_shapes(model)
    found = {name: tensor.info for name, tensor in tensors.items()}
    faults = differences(expected, found, describe=describe)
    whole = [
        describe(name)
        for name, tensor in model.state_dict().items()
        if name in found and tensor.is_floating_point() != found[name].dtype.is_floating_point
    ]
    if whole:
        named = ", ".join(whole[:MAX_NAMED])
        faults += f"{faults and '; '}{len(whole)} in whole numbers or not as the model: {named}"
    if faults:
        paths = " and ".join(str(piece.candidate.path) for piece in pieces)
        raise PipelineLoadFailed(f"{paths}: does not match the model's {part}: {faults}")


def _stored_dtype(part: str, name: str, source_dtype: torch.dtype, part_dtype: str) -> torch.dtype:
    """The dtype that a tensor is loaded in, so that loading need not copy it."""
    if not source_dtype.is_floating_point:
        return source_dtype
    modules = name.split(".")
    keeps_float32 = any(module in modules for module in float32_modules(part))
    if keeps_float32:
        return torch.float32
    dtype: torch.dtype = getattr(torch, part_dtype)
    return dtype


def _copy_tokenizer(tokenizer: Path, folder: Path) -> None:
    """Copies the files of a tokenizer, and no weights that may lie beside them."""
    folder.mkdir()
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copy(tokenizer / name, folder)


def _check_disk_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise PipelineLoadFailed(
            f"{folder.parent} has {free / 1e9:.1f} GB free; the weights take {size / 1e9:.1f} GB"
        )
