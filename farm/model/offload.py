"""Blocks that stay in host memory and are copied to the device just before their turn.

Diffusers' group offload does the copying. One block of the 14 billion parameters is copied in less
time than it is computed in, so on a separate stream this costs host memory and next to no time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def move_to_device(model: Any, device: str, *, resident_parameters: int | None) -> None:
    """Moves the model to the device, except for blocks beyond `resident_parameters`.

    The first blocks stay on the device as long as their parameters together are at most that many;
    None moves all of them. On CUDA, a block is copied while the one before it computes.
    """
    blocks = model.blocks
    stay = _resident_blocks(blocks, resident_parameters)
    if stay == len(blocks):
        model.to(device)
        return
    _stream_blocks(model, blocks[stay:], device)
    others = [child for name, child in model.named_children() if name != "blocks"]
    for module in (*others, *blocks[:stay]):
        module.to(device)


def remove_offload_hooks(model: Any) -> None:
    """Undoes `move_to_device`'s streaming; every tensor stays where it is."""
    for module in model.modules():
        registry = getattr(module, "_diffusers_hook", None)
        if registry is None:
            continue
        for name in reversed([*registry.hooks]):
            registry.remove_hook(name, recurse=False)


def _stream_blocks(model: Any, blocks: nn.ModuleList, device: str) -> None:
    # Group offload takes everything below the module that it is given, so the rest is hidden from
    # it meanwhile.
    modules = dict(model._modules)
    model._modules = {"blocks": blocks}
    try:
        model.enable_group_offload(
            torch.device(device),
            num_blocks_per_group=1,
            use_stream=torch.device(device).type == "cuda",
        )
    finally:
        model._modules = modules


def _resident_blocks(blocks: nn.ModuleList, parameters: int | None) -> int:
    """The number of blocks, from the first, that have at most `parameters` parameters in total."""
    if parameters is None:
        return len(blocks)
    for count, block in enumerate(blocks):
        parameters -= sum(each.numel() for each in block.parameters())
        if parameters < 0:
            return count
    return len(blocks)
