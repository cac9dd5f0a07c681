"""The models that a checkpoint folder holds: their classes, and their skeletons without weights."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

# Where each part's class and, for transformers' models, its configuration live: a worker that only embeds sound never
# imports the others.
PARTS = {
    "transformer": ("farm.model.transformer:InfiniteTalkTransformer", None),
    "vae": ("diffusers:AutoencoderKLWan", None),
    "text_encoder": ("transformers:UMT5EncoderModel", "transformers:UMT5Config"),
    "image_encoder": (
        "transformers:CLIPVisionModel",
        "transformers:CLIPVisionConfig",
    ),
    "audio_encoder": ("transformers:Wav2Vec2Model", "transformers:Wav2Vec2Config"),
}


def model_class(part: str) -> Any:
    """The class of a part."""
    return _named(PARTS[part][0])


def library(part: str) -> str:
    """Whose ways of loading and storing the part keeps to: diffusers' or transformers'."""
    return "diffusers" if PARTS[part][1] is None else "transformers"


def built(part: str, config: Mapping[str, Any]) -> Any:
    """A part by its configuration, its weights not yet those of any checkpoint."""
    configuration = PARTS[part][1]
    return (
        model_class(part)(**config)
        if configuration is None
        else model_class(part)(_named(configuration)(**config))
    )


def skeleton(part: str, config: Mapping[str, Any]) -> Any:
    """A part with names, shapes and dtypes, and no memory for any weight."""
    with torch.device("meta"):
        return built(part, config)


def shapes(model: Any) -> dict[str, torch.Size]:
    """Every tensor that a checkpoint of the model must hold; of tensors that are one and the same, the first name."""
    tied = getattr(model, "_tied_weights_keys", None) or {}
    return {name: tensor.shape for name, tensor in model.state_dict().items() if name not in tied}


def kept_in_float32(part: str) -> list[str]:
    """Modules of a part that loading in bfloat16 leaves in float32."""
    rule = {
        "diffusers": "_keep_in_fp32_modules",
        "transformers": "_keep_in_fp32_modules_strict",
    }[library(part)]
    return list(getattr(model_class(part), rule, None) or [])


def stem(part: str) -> str:
    """What a part's weight files are called, before `.safetensors`."""
    return {"diffusers": "diffusion_pytorch_model", "transformers": "model"}[library(part)]


def save_config(part: str, model: Any, folder: Path) -> None:
    """Writes the part's config.json."""
    (model.save_config if library(part) == "diffusers" else model.config.save_pretrained)(folder)


def _named(place: str) -> Any:
    module, name = place.split(":")
    return getattr(import_module(module), name)
