"""Weights and inputs of the reference cases, drawn by their names in the original checkpoints."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from farm.model.weights.key_maps import (
    diffusers_autoencoder,
    diffusers_transformer,
    original_transformer,
)


def draw(name: str, shape: Sequence[int]) -> Tensor:
    """Standard normal numbers that depend on the name alone."""
    return torch.randn(
        tuple(shape),
        generator=torch.Generator().manual_seed(zlib.crc32(name.encode())),
    )


def weight(name: str, shape: Sequence[int]) -> Tensor:
    """A parameter by its original name, scaled by its kind."""
    noise = draw(name, shape)
    if name.endswith(("modulation", "scale_shift_table")):
        return noise * shape[-1] ** -0.5
    if name.endswith((".gamma", "_g")) or (len(shape) == 1 and name.endswith(".weight")):
        return 1 + 0.1 * noise
    if len(shape) == 1:
        return 0.02 * noise
    return noise * (noise.numel() / shape[0]) ** -0.5


def filled(model: nn.Module) -> nn.Module:
    """The model with every parameter drawn under the name that it already has."""
    for name, parameter in model.named_parameters():
        parameter.data = weight(name, parameter.shape)
    return model.eval().requires_grad_(False)


def filled_transformer(model: nn.Module) -> nn.Module:
    """The transformer with weights drawn under original names and converted like real ones."""
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    checkpoint = {name: weight(name, shape) for name, shape in original_transformer(shapes).items()}
    model.load_state_dict(diffusers_transformer(checkpoint), strict=True)
    return model.eval().requires_grad_(False)


def filled_autoencoder(model: nn.Module) -> nn.Module:
    """The autoencoder, in the same way."""
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    diffusers = diffusers_autoencoder({name: name for name in _autoencoder_names()})
    checkpoint = {
        original: weight(original, shapes[name])
        for name, original in diffusers.items()
        if name in shapes
    }
    model.load_state_dict(diffusers_autoencoder(checkpoint), strict=True)
    return model.eval().requires_grad_(False)


def _autoencoder_names() -> list[str]:
    """Every name of the original layout: 11 encoder and 15 decoder stages, each with all leaves."""
    residual = [
        "residual.0.gamma",
        "residual.3.gamma",
        "residual.2",
        "residual.6",
        "shortcut",
    ]
    attention = ["norm.gamma", "to_qkv", "proj"]
    sampling = ["resample.1", "time_conv"]
    modules = ["conv1", "conv2"]
    for side, stages in (("encoder.downsamples", 11), ("decoder.upsamples", 15)):
        modules += [
            f"{side}.{stage}.{leaf}" for stage in range(stages) for leaf in residual + sampling
        ]
    for side in ("encoder", "decoder"):
        modules += [f"{side}.middle.{index}.{leaf}" for index in (0, 2) for leaf in residual]
        modules += [f"{side}.middle.1.{leaf}" for leaf in attention]
        modules += [f"{side}.conv1", f"{side}.head.0.gamma", f"{side}.head.2"]
    return [
        name
        for each in modules
        for name in ([each] if each.endswith("gamma") else [f"{each}.weight", f"{each}.bias"])
    ]
