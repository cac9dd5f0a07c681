"""A whole pipeline with random weights, drawn in memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from farm.model.block_attention import fold_audio_attention
from farm.model.denoise import Denoiser
from farm.model.drawn import DrawnWeights, draw_part
from farm.model.image import ImageEncoder
from farm.model.pipeline import Pipeline
from farm.model.vae import VideoAutoencoder
from farm.model.variant import Variant, Variants
from farm.presets import Preset


def draw_pipeline(
    preset: Preset,
    device: str,
    *,
    attention: str = "auto",
    fold_audio: bool = False,
    variant: Variant | None = None,
) -> Pipeline:
    """A pipeline of a preset without files; it has no text encoder, and features are drawn too.

    Raises as `load_pipeline`.
    """

    def draw(part: str) -> Any:
        return draw_part(part, preset.parts[part], device, dtype=preset.dtype_of(part))

    transformer = draw("transformer")
    fold_audio_attention(transformer, is_folded=fold_audio)
    variants = Variants(transformer, DrawnWeights(transformer, device), device)
    variants.switch(variant or Variant())
    denoiser = Denoiser(transformer, variants, device)
    return Pipeline(
        preset=preset,
        device=device,
        denoiser=denoiser,
        vae=VideoAutoencoder(
            draw("vae"),
            latents_per_call=preset.latents_per_call,
            decoder_dtype=torch.float16 if device.startswith("cuda") else torch.float32,
        ),
        encode_text=_refuse,
        encode_image=ImageEncoder(draw("image_encoder")),
        attention=denoiser.set_attention(attention),
    )


def _refuse(prompt: str) -> Tensor:
    raise NotImplementedError("a drawn model has no text encoder")
