"""The published weights, original or in diffusers' layout, into one folder in diffusers' layout.

Everything is planned and compared with the model from the files' headers before the first byte is
written; then one tensor after the other is read, renamed, cast to the dtype that it will be loaded
in, and written.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from farm.model.weights.check import check_extra_files, differences
from farm.model.weights.containers import open_weights
from farm.model.weights.folder import atomic_folder
from farm.model.weights.key_maps import (
    IMAGE_KEYS,
    TEXT_KEYS,
    TRANSFORMER_KEYS,
    autoencoder_keys,
    bare_image_encoder,
    diffusers_audio_encoder,
    diffusers_autoencoder,
    diffusers_image_encoder,
    diffusers_text_encoder,
    diffusers_transformer,
)
from farm.model.weights.sources import Source, write_sources
from farm.model.weights.tensorfile import (
    Entry,
    TensorFile,
    TensorInfo,
    shard_paths,
    write_shards,
)
from farm.presets import Preset

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
class PartSource:
    """The published files of one part, and how their names become diffusers'."""

    files: list[Path]
    """Its weights; `EXTRA_FILES` of the part lie beside the first one."""
    to_diffusers: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    """Its tensors under diffusers' names."""
    to_original: Callable[[str], str] = str
    """The diffusers name of a tensor to the one that its file should have."""


@dataclass(frozen=True)
class SourceTensor:
    """The published tensor that one of the model's is read from."""

    file: TensorFile
    name: str
    info: TensorInfo
    """As it comes out under its diffusers name."""


def convert(
    preset: Preset,
    root: Path,
    sources: Mapping[str, Source],
    *,
    report: Report,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """The preset's folder under `root`, made of the sources `wan`, `infinitetalk` and `wav2vec`.

    Wan may be in the original or in diffusers' layout. Raises InvalidInput if the folder exists,
    and PipelineLoadFailed, before anything is written, that names the file or the tensors that do
    not fit the model.
    """
    folder = preset.folder(root)
    if folder.exists():
        raise InvalidInput(f"{folder} exists; remove it, or set FARM_WEIGHTS to another folder")
    paths = {role: source.path for role, source in sources.items()}
    part_sources, tokenizer = _part_sources(preset, paths)
    skeletons = {part: skeleton(part, config) for part, config in preset.parts.items()}
    plan = {
        part: _entries(part, part_sources[part], skeletons[part], preset.dtype_of(part))
        for part in preset.parts
    }
    total = sum(entry.info.size for entries in plan.values() for entry in entries)
    try:
        with atomic_folder(folder) as temporary:
            _check_disk_space(temporary, total)
            shutil.copytree(tokenizer, temporary / "tokenizer")
            write_sources(temporary / "sources.json", sources)
            meter = Meter(report, total)
            for part, entries in plan.items():
                save_config(part, skeletons[part], temporary / part)
                for name in EXTRA_FILES.get(part, ()):
                    shutil.copy(part_sources[part].files[0].with_name(name), temporary / part)
                write_shards(
                    temporary / part,
                    weights_stem(part),
                    entries,
                    shard_bytes=shard_bytes,
                    on_written=partial(meter, part),
                )
    except OSError as error:
        raise PipelineLoadFailed(f"{folder} cannot be written: {error}") from error
    return folder


def _part_sources(preset: Preset, paths: Mapping[str, Path]) -> tuple[dict[str, PartSource], Path]:
    """The published files of each part, and the tokenizer's folder."""
    wan = paths["wan"]
    infinitetalk = paths["infinitetalk"]
    wav2vec = paths["wav2vec"]
    if not wan.is_dir():
        raise PipelineLoadFailed(f"wan: got {wan}; allowed: the folder of Wan2.1-I2V-14B-480P")
    if infinitetalk.is_dir():
        infinitetalk = infinitetalk / "infinitetalk.safetensors"
    layout = _diffusers_layout if (wan / "transformer").is_dir() else _original_layout
    part_sources, tokenizer = layout(preset, wan, infinitetalk)
    if not tokenizer.is_dir():
        raise PipelineLoadFailed(f"{tokenizer} is missing: the tokenizer of the text encoder")
    audio_file = wav2vec / "model.safetensors"
    if not audio_file.is_file():
        audio_file = wav2vec / "pytorch_model.bin"
    part_sources["audio_encoder"] = PartSource([audio_file], diffusers_audio_encoder)
    return part_sources, tokenizer


def _original_layout(
    preset: Preset, wan: Path, infinitetalk: Path
) -> tuple[dict[str, PartSource], Path]:
    res_blocks = preset.parts["vae"].get("num_res_blocks", 2)
    part_sources = {
        "transformer": PartSource(
            [*shard_paths(wan, "diffusion_pytorch_model"), infinitetalk],
            diffusers_transformer,
            TRANSFORMER_KEYS.to_original,
        ),
        "vae": PartSource(
            [wan / "Wan2.1_VAE.pth"],
            partial(diffusers_autoencoder, res_blocks=res_blocks),
            autoencoder_keys(res_blocks).to_original,
        ),
        "text_encoder": PartSource(
            [wan / "models_t5_umt5-xxl-enc-bf16.pth"],
            diffusers_text_encoder,
            TEXT_KEYS.to_original,
        ),
        "image_encoder": PartSource(
            [wan / "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"],
            diffusers_image_encoder,
            IMAGE_KEYS.to_original,
        ),
    }
    return part_sources, wan / "google" / "umt5-xxl"


def _diffusers_layout(
    preset: Preset, wan: Path, infinitetalk: Path
) -> tuple[dict[str, PartSource], Path]:
    """Only InfiniteTalk's names are original here; `diffusers_transformer` renames them."""
    files = {
        part: shard_paths(wan / part, weights_stem(part))
        for part in ("transformer", "vae", "text_encoder", "image_encoder")
    }
    part_sources = {
        "transformer": PartSource([*files["transformer"], infinitetalk], diffusers_transformer),
        "vae": PartSource(files["vae"], dict),
        "text_encoder": PartSource(files["text_encoder"], _without_tied_embedding),
        "image_encoder": PartSource(files["image_encoder"], bare_image_encoder),
    }
    return part_sources, wan / "tokenizer"


def _without_tied_embedding(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the second name of the shared embedding."""
    tied = "encoder.embed_tokens.weight"
    return {name: tensor for name, tensor in tensors.items() if name != tied}


def _entries(part: str, source: PartSource, model: Any, dtype: str) -> list[Entry]:
    """The tensors to write of a part, checked to be exactly those of the model."""
    check_extra_files(source.files[0].parent, part)
    tensors = _source_tensors(source)
    faults = differences(
        tensor_shapes(model),
        {name: tensor.info for name, tensor in tensors.items()},
        describe=lambda name: _source_name(name, tensors, source),
    )
    if faults:
        raise PipelineLoadFailed(
            f"{source.files[0].parent} does not match the model's {part}: {faults}"
        )
    entries = []
    for name, tensor in tensors.items():
        stored = _stored_dtype(part, name, tensor.info.dtype, dtype)
        make = partial(_read_renamed, tensor, source, name, stored)
        entries.append(Entry(name, TensorInfo(tensor.info.shape, stored), make))
    return entries


def _source_tensors(source: PartSource) -> dict[str, SourceTensor]:
    """The source of each of the model's tensors, by its diffusers name.

    Of two files that have one, the later counts, as in the original code.
    """
    tensors = {}
    for path in source.files:
        file = open_weights(path)
        for name, info in file.info.items():
            for renamed, like in source.to_diffusers({name: info.meta_tensor()}).items():
                renamed_info = TensorInfo(like.shape, like.dtype, info.complete)
                tensors[renamed] = SourceTensor(file, name, renamed_info)
    return tensors


def _source_name(name: str, tensors: Mapping[str, SourceTensor], source: PartSource) -> str:
    """A tensor by the name that it has, or should have, in the published files."""
    if name not in tensors:
        return source.to_original(name)
    return f"{tensors[name].name} in {tensors[name].file.path.name}"


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


def _read_renamed(
    tensor: SourceTensor, source: PartSource, name: str, dtype: torch.dtype
) -> Tensor:
    stored = {tensor.name: tensor.file.read(tensor.name)}
    return source.to_diffusers(stored)[name].to(dtype)


def _check_disk_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise PipelineLoadFailed(
            f"{folder.parent} has {free / 1e9:.1f} GB free; the weights take {size / 1e9:.1f} GB"
        )
