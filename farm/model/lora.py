"""LoRA: what a training added to the model, kept as a small file and merged into the weights.

    lora_down or lora_A,    up @ down is added to a weight,
    lora_up or lora_B       times alpha / rank if there is an alpha
    diff, diff_b, diff_m    added as they are to a weight, a bias, a block's modulation

Modules may have their original names or diffusers'. A file trained on the text-to-video model fits
too: it has nothing for the parts that only the image-to-video model has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from farm.errors import PipelineLoadFailed
from farm.model.weights.fingerprint import DIGITS, UNREMEMBERED, Digests
from farm.model.weights.key_maps import original_transformer
from farm.model.weights.tensorfile import SafetensorsFile

PREFIXES = ("diffusion_model.", "transformer.")
"""Prefixes of module names in the files of some trainers."""

ROLES = {
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
"""The end of a tensor's name to the parameter of its module, and to its role in the change."""


class Adapter:
    """One LoRA file, matched with the parameters of a model.

    Its tensors stay in the file until they are merged.
    """

    def __init__(
        self, path: Path, parameters: Mapping[str, torch.Size], digests: Digests = UNREMEMBERED
    ) -> None:
        """Raises PipelineLoadFailed that names the first tensor which fits no parameter."""
        self.path = path
        self.shapes: dict[str, torch.Size] = {}
        self._tensors = SafetensorsFile(path)
        self._tensors.map()
        self.fingerprint = digests.of(path)[:DIGITS]
        self._names: dict[str, dict[str, str]] = {}
        known_names = _known_names(parameters)
        for name in self._tensors:
            parameter, role = self._match(name, known_names)
            self.shapes[parameter] = parameters[parameter]
            self._names.setdefault(parameter, {})[role] = name
        for parameter, names in self._names.items():
            self._check(parameters[parameter], names)

    def delta(self, parameter: str, device: str = "cpu") -> Tensor:
        """The change of one of the parameters in `shapes`, in float32."""
        tensors = {
            role: self._tensors[name].to(device, torch.float32)
            for role, name in self._names[parameter].items()
        }
        delta = torch.zeros(self.shapes[parameter], device=device)
        if "up" in tensors:
            product = tensors["up"].flatten(1) @ tensors["down"].flatten(1)
            rank = tensors["down"].shape[0]
            delta += product.view_as(delta) * (tensors.get("alpha", rank) / rank)
        if "diff" in tensors:
            delta += tensors["diff"].view_as(delta)
        return delta

    def _match(self, name: str, known_names: Mapping[str, str]) -> tuple[str, str]:
        """The parameter that a tensor of the file changes, and its role in the change."""
        prefix = next((each for each in PREFIXES if name.startswith(each)), "")
        bare = name.removeprefix(prefix)
        for ending, (leaf, role) in ROLES.items():
            parameter = known_names.get(f"{bare.removesuffix(ending)}.{leaf}")
            if bare.endswith(ending) and parameter:
                return parameter, role
        raise PipelineLoadFailed(f"{self.path}: {name} matches no parameter of the model")

    def _check(self, shape: torch.Size, names: Mapping[str, str]) -> None:
        """Refuses halves of a pair, and products or sums of another size than the parameter's."""
        first = next(iter(names.values()))
        pair = {"up", "down"}
        present = names.keys() & {*pair, "alpha"}
        is_half_pair = bool(present) and not present >= pair
        if is_half_pair:
            raise PipelineLoadFailed(f"{self.path}: {first} lacks the other half of its pair")
        shapes = {role: self._tensors.info[name].shape for role, name in names.items()}
        if "up" in shapes and not _is_product(shapes["up"], shapes["down"], shape):
            given = f"{list(shapes['up'])} by {list(shapes['down'])}"
            raise PipelineLoadFailed(
                f"{self.path}: {first} is {given}; the model has {list(shape)}"
            )
        if "diff" in shapes and shapes["diff"].numel() != shape.numel():
            given = f"{names['diff']} is {list(shapes['diff'])}"
            raise PipelineLoadFailed(f"{self.path}: {given}; the model has {list(shape)}")


def _is_product(up: torch.Size, down: torch.Size, shape: torch.Size) -> bool:
    """Whether up @ down, both flattened to two axes, has as many elements as the parameter."""
    return prod(up[1:]) == down[0] and up[0] * prod(down[1:]) == shape.numel()


def _known_names(parameters: Iterable[str]) -> dict[str, str]:
    """Every name that a file may use for a parameter, diffusers' or the original, to diffusers'."""
    names = {name: name for name in parameters}
    return names | original_transformer(names)
