"""LoRA: what a training added to the model, kept as a small file and merged into the weights.

    lora_down or lora_A, lora_up or lora_B    up @ down is added to a weight, times alpha / rank if there is an alpha
    diff, diff_b, diff_m                      added as they are to a weight, a bias, a block's modulation

Modules may go by their original names or by ours. A file trained on the text-to-video model fits too: it just has
nothing for the parts that only the image-to-video model has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from farm.errors import PipelineLoadFailed
from farm.model.stored import StoredTensors
from farm.model.weights.key_maps import original_transformer

PREFIXES = ("diffusion_model.", "transformer.")
"""What trainers write before a module's name."""

PIECES = {
    ".lora_down.weight": ("weight", "down"),
    ".lora_A.weight": ("weight", "down"),
    ".lora_A.default.weight": ("weight", "down"),
    ".lora_up.weight": ("weight", "up"),
    ".lora_B.weight": ("weight", "up"),
    ".lora_B.default.weight": ("weight", "up"),
    ".alpha": ("weight", "alpha"),
    ".diff": ("weight", "diff"),
    ".diff_b": ("bias", "diff"),
    ".diff_m": ("modulation", "diff"),
}
"""The end of a tensor's name: to which of the module's parameters it belongs, and as what."""


class Adapter:
    """One LoRA file, matched with the parameters of a model; its tensors stay in the file until they are merged."""

    def __init__(self, path: Path, parameters: Mapping[str, torch.Size]) -> None:
        """Raises PipelineLoadFailed that names the first tensor which fits nothing, or fits in name only."""
        self.path = path
        self.shapes: dict[str, torch.Size] = {}
        self._tensors = StoredTensors(path)
        self._pieces: dict[str, dict[str, str]] = {}
        spellings = _spellings(parameters)
        for name in self._tensors:
            parameter, piece = self._matched(name, spellings)
            self.shapes[parameter] = parameters[parameter]
            self._pieces.setdefault(parameter, {})[piece] = name
        for parameter, pieces in self._pieces.items():
            self._check(parameters[parameter], pieces)

    def change(self, parameter: str, device: str = "cpu") -> Tensor:
        """What the file adds to one of the parameters in `shapes`, in float32."""
        read = {
            piece: self._tensors[name].to(device, torch.float32)
            for piece, name in self._pieces[parameter].items()
        }
        change = torch.zeros(self.shapes[parameter], device=device)
        if "up" in read:
            product = read["up"].flatten(1) @ read["down"].flatten(1)
            rank = read["down"].shape[0]
            change += product.view_as(change) * (read.get("alpha", rank) / rank)
        if "diff" in read:
            change += read["diff"].view_as(change)
        return change

    def _matched(self, name: str, spellings: Mapping[str, str]) -> tuple[str, str]:
        bare = next(
            (name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix)),
            name,
        )
        for ending, (leaf, piece) in PIECES.items():
            parameter = spellings.get(f"{bare.removesuffix(ending)}.{leaf}")
            if bare.endswith(ending) and parameter:
                return parameter, piece
        raise PipelineLoadFailed(f"{self.path}: {name} belongs to nothing that the model has")

    def _check(self, shape: torch.Size, pieces: Mapping[str, str]) -> None:
        """Refuses halves of a pair, and products or sums of another size than the parameter's."""
        name = next(iter(pieces.values()))
        if pieces.keys() & {"up", "down", "alpha"} and not pieces.keys() >= {
            "up",
            "down",
        }:
            raise PipelineLoadFailed(f"{self.path}: {name} lacks the other half of its pair")
        sizes = {piece: self._tensors.shape(pieces[piece]) for piece in pieces}
        if "up" in sizes:
            (out, rank), down = (
                (sizes["up"][0], prod(sizes["up"][1:])),
                sizes["down"],
            )
            if (rank, out * prod(down[1:])) != (down[0], shape.numel()):
                given = f"{list(sizes['up'])} by {list(down)}"
                raise PipelineLoadFailed(
                    f"{self.path}: {name} is {given}; the model has {list(shape)}"
                )
        if "diff" in sizes and prod(sizes["diff"]) != shape.numel():
            given = f"{pieces['diff']} is {list(sizes['diff'])}"
            raise PipelineLoadFailed(f"{self.path}: {given}; the model has {list(shape)}")


def _spellings(parameters: Iterable[str]) -> dict[str, str]:
    """Every name that a file may use for a parameter, ours or the original, to ours."""
    ours = {name: name for name in parameters}
    return ours | original_transformer(ours)
