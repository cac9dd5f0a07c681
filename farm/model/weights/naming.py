"""How the tensors of a file are named, which its names alone tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from farm.model.weights.key_maps import (
    IMAGE_KEYS,
    TEXT_KEYS,
    TEXT_LLAMA_KEYS,
    TRANSFORMER_KEYS,
    autoencoder_keys,
    bare_image_encoder,
    bare_text_encoder,
    diffusers_audio_encoder,
    diffusers_autoencoder,
    diffusers_image_encoder,
    diffusers_text_encoder,
    diffusers_transformer,
    llama_text_encoder,
)

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Naming:
    """The names that a part has in a file."""

    part: str
    title: str
    """Whose names they are."""
    to_diffusers: Callable[[Tensors], dict[str, Tensor]]
    """The tensors under diffusers' names."""
    to_original: Callable[[str], str] = str
    """The diffusers name of a tensor to the one that the file should have."""

    def below(self, prefix: str) -> Naming:
        """The same with a prefix before every name."""
        if not prefix:
            return self
        return Naming(
            self.part,
            self.title,
            lambda tensors: self.to_diffusers(_without(prefix, tensors)),
            lambda name: prefix + self.to_original(name),
        )


PREFIXES = ("", "model.diffusion_model.", "diffusion_model.", "model.")
"""What programs put before all names of a model; ComfyUI takes any of them."""


def _without(prefix: str, tensors: Tensors) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _below_visual(tensors: Tensors) -> dict[str, Tensor]:
    return diffusers_image_encoder({f"visual.{name}": tensor for name, tensor in tensors.items()})


NAMINGS = (
    (
        r"blocks\.\d+\.(self_attn\.q|audio_cross_attn\.q_linear)\.weight",
        Naming("transformer", "original", diffusers_transformer, TRANSFORMER_KEYS.to_original),
    ),
    (
        r"blocks\.\d+\.(attn1\.to_q|attn_audio\.to_q)\.weight",
        Naming("transformer", "diffusers'", dict),
    ),
    (
        r"blocks\.\d+\.pos_embedding\.embedding\.weight",
        Naming("text_encoder", "original", diffusers_text_encoder, TEXT_KEYS.to_original),
    ),
    (
        r"encoder\.block\.0\.layer\.0\.SelfAttention\.q\.weight",
        Naming("text_encoder", "transformers'", bare_text_encoder),
    ),
    (
        r"enc\.blk\.0\.attn_q\.weight",
        Naming("text_encoder", "llama.cpp's", llama_text_encoder, TEXT_LLAMA_KEYS.to_original),
    ),
    (
        r"visual\.transformer\.0\.attn\.to_qkv\.weight",
        Naming("image_encoder", "original", diffusers_image_encoder, IMAGE_KEYS.to_original),
    ),
    (
        r"transformer\.0\.attn\.to_qkv\.weight",
        Naming(
            "image_encoder",
            "original",
            _below_visual,
            lambda name: IMAGE_KEYS.to_original(name).removeprefix("visual."),
        ),
    ),
    (
        r"(vision_model\.)?embeddings\.patch_embedding\.weight",
        Naming("image_encoder", "transformers'", bare_image_encoder),
    ),
    (r"decoder\.up_blocks\.0\.resnets\.0\.norm1\.gamma", Naming("vae", "diffusers'", dict)),
    (
        r"(wav2vec2\.)?feature_extractor\.conv_layers\.0\.conv\.weight",
        Naming("audio_encoder", "transformers'", diffusers_audio_encoder),
    ),
)
"""Each with an expression for a name that no other has. The autoencoder's original names depend on
its size, so they have a function."""

AUTOENCODER = re.compile(r"decoder\.head\.0\.gamma")
DOWNSAMPLES = re.compile(r"encoder\.downsamples\.(\d+)\.")


def naming(names: Collection[str]) -> Naming | None:
    """The naming of the tensors with these names; None if the farm has no such part."""
    for prefix in PREFIXES:
        bare = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        found = _bare_naming(bare)
        if found:
            return found.below(prefix)
    return None


def _bare_naming(names: list[str]) -> Naming | None:
    for expression, each in NAMINGS:
        marker = re.compile(expression)
        if any(marker.fullmatch(name) for name in names):
            return each
    if any(AUTOENCODER.fullmatch(name) for name in names):
        return _autoencoder_naming(names)
    return None


def _autoencoder_naming(names: list[str]) -> Naming:
    """The original names of an autoencoder, numbered through its four stages."""
    numbers = [int(found[1]) for found in map(DOWNSAMPLES.match, names) if found]
    res_blocks = max(1, (max(numbers, default=0) + 2) // 4 - 1)
    return Naming(
        "vae",
        "original",
        partial(diffusers_autoencoder, res_blocks=res_blocks),
        autoencoder_keys(res_blocks).to_original,
    )
