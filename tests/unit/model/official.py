"""A checkpoint in diffusers' layout, written as it is published: files, containers and names."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from farm.model.parts import PREPROCESSOR_CONFIG
from farm.model.weights.key_maps import (
    IMAGE_KEYS,
    TEXT_KEYS,
    autoencoder_keys,
    original_transformer,
)
from farm.model.weights.sources import Source
from farm.presets import Preset

Tensors = dict[str, Tensor]

T5 = "models_t5_umt5-xxl-enc-bf16.pth"
CLIP = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
VAE = "Wan2.1_VAE.pth"
HEARING = re.compile(r"audio_proj\.|.*\.audio_cross_attn\.|.*\.norm_x\.")
"""The tensors in InfiniteTalk's file; the others are Wan's."""


def publish(checkpoint: Path, folder: Path, preset: Preset) -> dict[str, Source]:
    """Writes the sources of `convert` to `folder`, with Wan in the original layout."""
    wan, infinitetalk, wav2vec = sources = [folder / name for name in ("wan", "single", "wav2vec")]
    for each in sources:
        each.mkdir(parents=True)
    transformer = original_transformer(load_part(checkpoint, "transformer"))
    heard = {name: tensor for name, tensor in transformer.items() if HEARING.match(name)}
    write_shards(
        wan,
        {name: tensor for name, tensor in transformer.items() if name not in heard},
        count=7,
    )
    save_file(heard, infinitetalk / "infinitetalk.safetensors")
    res_blocks = preset.parts["vae"]["num_res_blocks"]
    torch.save(
        renamed(load_part(checkpoint, "vae"), autoencoder_keys(res_blocks).to_original),
        wan / VAE,
    )
    torch.save(renamed(load_part(checkpoint, "text_encoder"), TEXT_KEYS.to_original), wan / T5)
    torch.save(published_clip(load_part(checkpoint, "image_encoder")), wan / CLIP)
    torch.save(
        published_wav2vec(load_part(checkpoint, "audio_encoder")),
        wav2vec / "pytorch_model.bin",
    )
    shutil.copy(checkpoint / "audio_encoder" / PREPROCESSOR_CONFIG, wav2vec)
    shutil.copytree(checkpoint / "tokenizer", wan / "google" / "umt5-xxl")
    return {
        "wan": Source(wan),
        "infinitetalk": Source(infinitetalk / "infinitetalk.safetensors"),
        "wav2vec": Source(wav2vec),
    }


def publish_diffusers(checkpoint: Path, folder: Path, preset: Preset) -> dict[str, Source]:
    """The same with Wan in diffusers' layout."""
    sources = publish(checkpoint, folder, preset)
    wan = folder / "diffusers"
    for part in (
        "transformer",
        "vae",
        "text_encoder",
        "image_encoder",
        "tokenizer",
    ):
        shutil.copytree(checkpoint / part, wan / part)
    file = wan / "transformer" / "diffusion_pytorch_model.safetensors"
    heard = ("audio_proj.", "attn_audio.", "norm_audio.")
    save_file(
        {name: t for name, t in load_file(file).items() if not any(part in name for part in heard)},
        file,
    )
    file = wan / "image_encoder" / "model.safetensors"
    save_file(renamed(load_file(file), "vision_model.{}".format), file)
    file = wan / "text_encoder" / "model.safetensors"
    text = load_file(file)
    save_file(text | {"encoder.embed_tokens.weight": text["shared.weight"].clone()}, file)
    return {**sources, "wan": Source(wan)}


def load_part(checkpoint: Path, part: str) -> Tensors:
    files = (checkpoint / part).glob("*.safetensors")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def renamed(tensors: Tensors, to_original: Callable[[str], str]) -> Tensors:
    return {to_original(name): tensor for name, tensor in tensors.items()}


def write_shards(folder: Path, tensors: Tensors, count: int) -> None:
    files = [
        f"diffusion_pytorch_model-{number:05}-of-{count:05}.safetensors"
        for number in range(1, count + 1)
    ]
    places = dict(zip(tensors, itertools.cycle(files), strict=False))
    for file in files:
        save_file(
            {name: tensors[name] for name in tensors if places[name] == file},
            folder / file,
        )
    index = {"metadata": {}, "weight_map": places}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def published_clip(tensors: Tensors) -> Tensors:
    """Queries, keys and values in one matrix, leading axes of one, a head, and a text half."""
    names = renamed(tensors, IMAGE_KEYS.to_original)
    clip = {
        name: tensor
        for name, tensor in names.items()
        if not any(f".attn.{part}." in name for part in "qkv")
    }
    clip["visual.cls_embedding"] = clip["visual.cls_embedding"][None, None]
    clip["visual.pos_embedding"] = clip["visual.pos_embedding"][None]
    for name in [name for name in names if ".attn.q." in name]:
        rows = [names[name.replace(".attn.q.", f".attn.{part}.")] for part in "qkv"]
        clip[name.replace(".attn.q.", ".attn.to_qkv.")] = torch.cat(rows)
    return clip | {
        "visual.head": torch.zeros(4, 4),
        "textual.token_embedding.weight": torch.zeros(9, 4),
    }


def published_wav2vec(tensors: Tensors) -> Tensors:
    """As it was saved after training, by a torch whose weight norm had other names."""
    conv = "encoder.pos_conv_embed.conv"
    old = {
        f"{conv}.parametrizations.weight.original{i}": f"{conv}.weight_{leaf}"
        for i, leaf in enumerate("gv")
    }
    bare = renamed(tensors, lambda name: "wav2vec2." + old.get(name, name))
    return bare | {
        "wav2vec2.masked_spec_embed": torch.zeros(4),
        "quantizer.codevectors": torch.zeros(1, 2, 3),
    }
