"""Blocks that live in host memory and come to the device just before their turn, through diffusers' group offload.

Copying one block of the 14 billion parameters takes less time than computing one, so behind a stream of its own it
costs memory on the host and next to nothing else.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def place(model: Any, device: str, *, resident: int | None) -> None:
    """Puts the model on the device, but of its blocks only the first ones with at most `resident` parameters in all.

    None keeps all of them there. On CUDA, a block is copied while the one before it computes.
    """
    blocks = model.blocks
    stay = _fitting(model.blocks, resident)
    if stay == len(blocks):
        model.to(device)
        return
    # Group offload takes everything below the module that it is given; what shall stay is out of its sight meanwhile.
    modules = dict(model._modules)
    model._modules = {"blocks": blocks[stay:]}
    try:
        model.enable_group_offload(
            torch.device(device),
            num_blocks_per_group=1,
            use_stream=torch.device(device).type == "cuda",
        )
    finally:
        model._modules = modules
    for each in (
        *(child for name, child in model.named_children() if name != "blocks"),
        *blocks[:stay],
    ):
        each.to(device)


def release(model: Any) -> None:
    """Takes the hooks of `place` away; every tensor stays where it is."""
    for module in model.modules():
        if registry := getattr(module, "_diffusers_hook", None):
            for name in reversed([*registry.hooks]):
                registry.remove_hook(name, recurse=False)


def _fitting(blocks: nn.ModuleList, parameters: int | None) -> int:
    """How many blocks, from the first, have at most so many parameters together."""
    if parameters is None:
        return len(blocks)
    count = 0
    for block in blocks:
        parameters -= sum(each.numel() for each in block.parameters())
        if parameters < 0:
            break
        count += 1
    return count
