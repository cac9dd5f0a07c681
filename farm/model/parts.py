"""The models that a checkpoint folder holds: their classes, and their skeletons without weights."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

# The class of each part and, for transformers' models, of its configuration. By name, so that a
# worker that only embeds audio never imports the other parts.
PARTS = {
    "transformer": ("farm.model.transformer:InfiniteTalkTransformer", None),
    "vae": ("diffusers:AutoencoderKLWan", None),
    "text_encoder": (
        "transformers:UMT5EncoderModel",
        "transformers:UMT5Config",
    ),
    "image_encoder": (
        "transformers:CLIPVisionModel",
        "transformers:CLIPVisionConfig",
    ),
    "audio_encoder": (
        "transformers:Wav2Vec2Model",
        "transformers:Wav2Vec2Config",
    ),
}

PREPROCESSOR_CONFIG = "preprocessor_config.json"

EXTRA_FILES = {"audio_encoder": (PREPROCESSOR_CONFIG,)}
"""Files that a part has besides its configuration and its weights."""


def model_class(part: str) -> Any:
    """The class of a part."""
    return _import_name(PARTS[part][0])


def library(part: str) -> str:
    """The library that loads and stores the part: diffusers or transformers."""
    return "diffusers" if PARTS[part][1] is None else "transformers"


def build(part: str, config: Mapping[str, Any]) -> Any:
    """A part by its configuration, with its class's random initial weights."""
    config_class = PARTS[part][1]
    if config_class is None:
        return model_class(part)(**config)
    return model_class(part)(_import_name(config_class)(**config))


def skeleton(part: str, config: Mapping[str, Any]) -> Any:
    """A part with names, shapes and dtypes, and no memory for any weight."""
    with torch.device("meta"):
        return build(part, config)


def tensor_shapes(model: Any) -> dict[str, torch.Size]:
    """The shape of every tensor that a checkpoint of the model must hold.

    Of tensors that are one and the same, only the first name counts.
    """
    tied = getattr(model, "_tied_weights_keys", None) or {}
    state = model.state_dict()
    return {name: tensor.shape for name, tensor in state.items() if name not in tied}


def float32_modules(part: str) -> list[str]:
    """Modules of a part that loading in bfloat16 leaves in float32."""
    attribute = {
        "diffusers": "_keep_in_fp32_modules",
        "transformers": "_keep_in_fp32_modules_strict",
    }[library(part)]
    return list(getattr(model_class(part), attribute, None) or [])


def weights_stem(part: str) -> str:
    """The name of a part's weight files, before `.safetensors`."""
    return {"diffusers": "diffusion_pytorch_model", "transformers": "model"}[library(part)]


def save_config(part: str, model: Any, folder: Path) -> None:
    """Writes the part's config.json."""
    if library(part) == "diffusers":
        model.save_config(folder)
    else:
        model.config.save_pretrained(folder)


def _import_name(path: str) -> Any:
    module, name = path.split(":")
    return getattr(import_module(module), name)
