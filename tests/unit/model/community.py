"""Weights as people have them: some tensors rounded, in the containers of other programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import save_file
from torch import Tensor

from farm.model.weights.key_maps import (
    TEXT_KEYS,
    TEXT_LLAMA_KEYS,
    autoencoder_keys,
    original_transformer,
)
from tests.support.tiny_model import TINY_PRESET
from tests.unit.model import official

Tensors = dict[str, Tensor]
Save = Callable[[Tensors, Path], Path]


def transformer(checkpoint: Path) -> Tensors:
    """The whole transformer under its original names."""
    return original_transformer(official.load_part(checkpoint, "transformer"))


def base(checkpoint: Path) -> Tensors:
    """Wan's own layers."""
    whole = transformer(checkpoint)
    return {name: each for name, each in whole.items() if not official.HEARING.match(name)}


def audio_layers(checkpoint: Path) -> Tensors:
    """InfiniteTalk's."""
    whole = transformer(checkpoint)
    return {name: each for name, each in whole.items() if official.HEARING.match(name)}


def text_encoder(checkpoint: Path) -> Tensors:
    """UMT5 under its original names."""
    return official.renamed(official.load_part(checkpoint, "text_encoder"), TEXT_KEYS.to_original)


def llama_text_encoder(checkpoint: Path) -> Tensors:
    """UMT5 under llama.cpp's names."""
    tensors = official.load_part(checkpoint, "text_encoder")
    return official.renamed(tensors, TEXT_LLAMA_KEYS.to_original)


def autoencoder(checkpoint: Path) -> Tensors:
    """The VAE under its original names."""
    keys = autoencoder_keys(TINY_PRESET.parts["vae"]["num_res_blocks"])
    return official.renamed(official.load_part(checkpoint, "vae"), keys.to_original)


def image_encoder(checkpoint: Path) -> Tensors:
    """CLIP's image half under its original names."""
    clip = official.published_clip(official.load_part(checkpoint, "image_encoder"))
    return {name: each for name, each in clip.items() if name.startswith("visual.")}


def is_linear(name: str, tensor: Tensor) -> bool:
    """Whether programs that round weights round this one."""
    linear = tensor.ndim == 2 and name.endswith(".weight") and "block" in name
    return linear and tensor.shape[1] % 32 == 0


def rounded_to(dtype: torch.dtype) -> Save:
    """Every tensor in one dtype, as safetensors."""

    def save(tensors: Tensors, path: Path) -> Path:
        save_file({name: each.to(dtype) for name, each in tensors.items()}, path)
        return path

    return save


def pickled(tensors: Tensors, path: Path) -> Path:
    torch.save({name: each.bfloat16() for name, each in tensors.items()}, path)
    return path


def fp8(tensors: Tensors, path: Path) -> Path:
    """Linears in float8 as they are."""
    return save_linears(tensors, path, lambda name, each: {name: each.to(torch.float8_e4m3fn)})


def scaled(scale_name: str, *, by_row: bool = False) -> Save:
    """Linears in float8 after division by a scale, as ComfyUI's programs write them."""

    def scaled_linear(name: str, each: Tensor) -> Tensors:
        scale = (each.abs().amax(1) if by_row else each.abs().amax()) / 448
        divided = each / (scale[:, None] if by_row else scale)
        module = name.removesuffix(".weight")
        return {name: divided.to(torch.float8_e4m3fn), f"{module}.{scale_name}": scale.float()}

    def save(tensors: Tensors, path: Path) -> Path:
        more = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
        return save_linears(tensors, path, scaled_linear, more)

    return save


def comfy_quant(fields: dict[str, object]) -> Tensor:
    """The format of a layer, as ComfyUI keeps it."""
    return torch.tensor(list(json.dumps(fields).encode()), dtype=torch.uint8)


def quanto(dtype: torch.dtype, largest: float) -> Save:
    """Linears as optimum-quanto writes them: one scale per row, activations left alone."""

    def quantised(name: str, each: Tensor) -> Tensors:
        scale = each.abs().amax(1, keepdim=True) / largest
        data = each / scale
        return {
            f"{name}._data": (data.round() if dtype == torch.int8 else data).to(dtype),
            f"{name}._scale": scale.float(),
            f"{name.removesuffix('.weight')}.input_scale": torch.ones(()),
            f"{name.removesuffix('.weight')}.output_scale": torch.ones(()),
        }

    return lambda tensors, path: save_linears(tensors, path, quantised)


def save_linears(
    tensors: Tensors,
    path: Path,
    change: Callable[[str, Tensor], Tensors],
    more: Tensors | None = None,
) -> Path:
    """Saves tensors in bfloat16 but for linears, of which each becomes others."""
    stored: Tensors = dict(more or {})
    for name, each in tensors.items():
        changed = change(name, each.float()) if is_linear(name, each) else {name: each.bfloat16()}
        stored |= changed
    save_file(stored, path)
    return path


def ggufs(kind: Kind) -> Save:
    """Linears in a type of GGUF, vectors in F32, and the rest in BF16."""

    def save(tensors: Tensors, path: Path) -> Path:
        kinds = {
            name: kind if is_linear(name, each) else Kind.F32 if each.ndim < 2 else Kind.BF16
            for name, each in tensors.items()
        }
        return write_gguf(path, {name: (each, kinds[name]) for name, each in tensors.items()})

    return save


def write_gguf(path: Path, tensors: dict[str, tuple[Tensor, Kind]], **fields: list[int]) -> Path:
    """A file written by the gguf package itself."""
    writer = gguf.GGUFWriter(path, "wan")
    for key, shape in fields.items():
        writer.add_array(key, shape)
    for name, (tensor, kind) in tensors.items():
        data = gguf.quantize(tensor.float().numpy(), kind)
        raw = kind if data.dtype == np.uint8 else None
        writer.add_tensor(name, np.ascontiguousarray(data), raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


SAVES: dict[str, Save] = {
    "safetensors of bfloat16": rounded_to(torch.bfloat16),
    "safetensors of float16": rounded_to(torch.float16),
    "safetensors of float32": rounded_to(torch.float32),
    "pickle of bfloat16": pickled,
    "GGUF F16": ggufs(Kind.F16),
    "GGUF BF16": ggufs(Kind.BF16),
    "GGUF Q8_0": ggufs(Kind.Q8_0),
    "GGUF Q5_1": ggufs(Kind.Q5_1),
    "GGUF Q4_0": ggufs(Kind.Q4_0),
    "fp8": fp8,
    "fp8 with scale_weight": scaled("scale_weight"),
    "fp8 with weight_scale by row": scaled("weight_scale", by_row=True),
    "quanto int8": quanto(torch.int8, 127),
    "quanto fp8": quanto(torch.float8_e4m3fn, 448),
}
"""Ways to store weights, by what they are called here."""


def comfy_text_encoder(checkpoint: Path) -> Tensors:
    """UMT5 in ComfyUI's file: transformers' names, and the tokenizer as bytes."""
    tensors = official.load_part(checkpoint, "text_encoder")
    return tensors | {"spiece_model": torch.zeros(100, dtype=torch.uint8)}


def clip_vision(checkpoint: Path) -> Tensors:
    """CLIP's image half in ComfyUI's file: transformers' names, and the unused projection."""
    tensors = official.load_part(checkpoint, "image_encoder")
    named = official.renamed(tensors, "vision_model.{}".format)
    return named | {"visual_projection.weight": torch.zeros(4, 4)}


def audio_encoder(checkpoint: Path) -> Tensors:
    """wav2vec2 in one safetensors file, as it was trained."""
    return official.published_wav2vec(official.load_part(checkpoint, "audio_encoder"))


def llama_gguf(tensors: Tensors, path: Path) -> Path:
    """UMT5 in llama.cpp's file, quantised wherever rows are whole blocks."""
    kinds = {
        name: Kind.Q8_0 if each.ndim == 2 and each.shape[1] % 32 == 0 else Kind.F32
        for name, each in tensors.items()
    }
    return write_gguf(path, {name: (each, kinds[name]) for name, each in tensors.items()})
