"""The published weights, in the layouts that they are published in, into one folder of ours.

Everything is planned and compared with the model from the files' headers before the first byte is written; then one
tensor after the other is read, renamed, cast to the dtype that it will be loaded in, and written.
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
from farm.model.parts import kept_in_float32, save_config, shapes, skeleton, stem
from farm.model.presets import Preset
from farm.model.weights.check import differences
from farm.model.weights.folder import appearing
from farm.model.weights.key_maps import (
    IMAGE_NAMING,
    TEXT_NAMING,
    TRANSFORMER_NAMING,
    autoencoder_naming,
    bare_image_encoder,
    native_audio_encoder,
    native_autoencoder,
    native_image_encoder,
    native_text_encoder,
    native_transformer,
)
from farm.model.weights.rounded import plain
from farm.model.weights.sources import Source, write_note
from farm.model.weights.tensorfile import (
    Entry,
    Listed,
    TensorFile,
    opened,
    shards,
    write_shards,
)

SHARD_BYTES = 5_000_000_000

FLOAT32_PARTS = ("vae", "audio_encoder")
"""Never loaded in the preset's dtype."""

Report = Callable[[str, int, int], None]
"""`report(part, done, total)` in bytes of the whole folder."""


@dataclass
class Meter:
    """Tells how far a conversion is."""

    report: Report
    total: int
    done: int = 0

    def __call__(self, part: str, entry: Entry) -> None:
        self.done += entry.listed.size
        self.report(part, self.done, self.total)


@dataclass(frozen=True)
class Origin:
    """What one part is made of."""

    files: list[Path]
    native: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    """Its tensors under our names."""
    original: Callable[[str], str] = str
    """Our name of a tensor to the one that its file should have."""


@dataclass(frozen=True)
class Place:
    """Where one of our tensors lies in the published files."""

    file: TensorFile
    name: str
    listed: Listed
    """As it comes out under our name."""


def convert(
    preset: Preset,
    root: Path,
    sources: Mapping[str, Source],
    *,
    report: Report,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """The preset's folder under `root`, made of the sources `wan`, `infinitetalk` and `wav2vec`.

    Wan may be in its original or in Diffusers' layout. Raises InvalidInput if the folder exists, and
    PipelineLoadFailed, before anything is written, that names the file or the tensors that do not fit the model.
    """
    folder = preset.folder(root)
    if folder.exists():
        raise InvalidInput(
            f"{folder} exists; remove it, or choose another folder of weights by FARM_WEIGHTS"
        )
    origins, tokenizer = _origins(preset, {role: source.path for role, source in sources.items()})
    skeletons = {part: skeleton(part, config) for part, config in preset.parts.items()}
    plan = {
        part: _entries(part, origins[part], skeletons[part], preset.dtype) for part in preset.parts
    }
    total = sum(entry.listed.size for entries in plan.values() for entry in entries)
    try:
        with appearing(folder) as temporary:
            _check_room(temporary, total)
            shutil.copytree(tokenizer, temporary / "tokenizer")
            write_note(temporary / "sources.json", sources)
            meter = Meter(report, total)
            for part, entries in plan.items():
                save_config(part, skeletons[part], temporary / part)
                write_shards(
                    temporary / part,
                    stem(part),
                    entries,
                    shard_bytes=shard_bytes,
                    wrote=partial(meter, part),
                )
    except OSError as error:
        raise PipelineLoadFailed(f"{folder} cannot be written: {error}") from error
    return folder


def _origins(preset: Preset, paths: Mapping[str, Path]) -> tuple[dict[str, Origin], Path]:
    """What each part is made of, and the tokenizer's folder."""
    wan, infinitetalk, wav2vec = (paths[role] for role in ("wan", "infinitetalk", "wav2vec"))
    if not wan.is_dir():
        raise PipelineLoadFailed(f"{wan} is no folder; that of Wan2.1-I2V-14B-480P is wanted")
    if infinitetalk.is_dir():
        infinitetalk = infinitetalk / "infinitetalk.safetensors"
    layout = _diffusers_layout if (wan / "transformer").is_dir() else _original_layout
    origins, tokenizer = layout(preset, wan, infinitetalk)
    if not tokenizer.is_dir():
        raise PipelineLoadFailed(f"{tokenizer} is missing: the tokenizer of the text encoder")
    safe = wav2vec / "model.safetensors"
    heard = Origin(
        [safe if safe.is_file() else wav2vec / "pytorch_model.bin"],
        native_audio_encoder,
    )
    return {**origins, "audio_encoder": heard}, tokenizer


def _original_layout(
    preset: Preset, wan: Path, infinitetalk: Path
) -> tuple[dict[str, Origin], Path]:
    res_blocks = preset.parts["vae"].get("num_res_blocks", 2)
    clip = wan / "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
    return {
        "transformer": Origin(
            [*shards(wan, "diffusion_pytorch_model"), infinitetalk],
            native_transformer,
            TRANSFORMER_NAMING.original,
        ),
        "vae": Origin(
            [wan / "Wan2.1_VAE.pth"],
            partial(native_autoencoder, res_blocks=res_blocks),
            autoencoder_naming(res_blocks).original,
        ),
        "text_encoder": Origin(
            [wan / "models_t5_umt5-xxl-enc-bf16.pth"],
            native_text_encoder,
            TEXT_NAMING.original,
        ),
        "image_encoder": Origin([clip], native_image_encoder, IMAGE_NAMING.original),
    }, wan / "google" / "umt5-xxl"


def _diffusers_layout(
    preset: Preset, wan: Path, infinitetalk: Path
) -> tuple[dict[str, Origin], Path]:
    """Its names are ours, but for InfiniteTalk's own, which are left to `native_transformer`."""
    files = {
        part: shards(wan / part, stem(part))
        for part in ("transformer", "vae", "text_encoder", "image_encoder")
    }
    return {
        "transformer": Origin([*files["transformer"], infinitetalk], native_transformer),
        "vae": Origin(files["vae"], dict),
        "text_encoder": Origin(files["text_encoder"], _untied),
        "image_encoder": Origin(files["image_encoder"], bare_image_encoder),
    }, wan / "tokenizer"


def _untied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the second name of the shared embedding."""
    return {
        name: tensor for name, tensor in tensors.items() if name != "encoder.embed_tokens.weight"
    }


def _entries(part: str, origin: Origin, model: Any, dtype: str) -> list[Entry]:
    """What is to be written of a part, once it is what the model asks for."""
    places = _places(origin)
    found = {ours: place.listed for ours, place in places.items()}
    if wrong := differences(
        shapes(model), found, spoken=lambda ours: _spoken(ours, places, origin)
    ):
        raise PipelineLoadFailed(f"{origin.files[0].parent} makes no {part} of this model: {wrong}")
    entries = []
    for ours, place in places.items():
        stored = Listed(place.listed.shape, _stored(part, ours, place.listed.dtype, dtype))
        entries.append(Entry(ours, stored, partial(_made, place, origin, ours, stored.dtype)))
    return entries


def _places(origin: Origin) -> dict[str, Place]:
    """Where each of our tensors comes from; where two files have one, the later counts, as in the original."""
    places = {}
    for file in (plain(opened(path)) for path in origin.files):
        for name, listed in file.listed.items():
            for ours, like in origin.native({name: listed.hollow()}).items():
                places[ours] = Place(file, name, Listed(like.shape, like.dtype, listed.whole))
    return places


def _spoken(ours: str, places: Mapping[str, Place], origin: Origin) -> str:
    """A tensor by the name that stands, or should stand, in the published files."""
    return (
        f"{places[ours].name} in {places[ours].file.path.name}"
        if ours in places
        else origin.original(ours)
    )


def _stored(part: str, name: str, published: torch.dtype, wanted: str) -> torch.dtype:
    """What a tensor is loaded as, so that loading need not copy it."""
    if not published.is_floating_point:
        return published
    kept = any(module in name.split(".") for module in kept_in_float32(part))
    loaded: torch.dtype = torch.float32 if kept or part in FLOAT32_PARTS else getattr(torch, wanted)
    return loaded


def _made(place: Place, origin: Origin, ours: str, dtype: torch.dtype) -> Tensor:
    return origin.native({place.name: place.file.read(place.name)})[ours].to(dtype)


def _check_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise PipelineLoadFailed(
            f"{size / 1e9:.1f} GB are to be written to {folder.parent}, {free / 1e9:.1f} are free"
        )
