"""LoRA: what a training added to the model, kept as a small file and merged into the weights.

    lora_down or lora_A,    up @ down is added to a weight, times alpha / rank if there is an alpha,
    lora_up or lora_B       and the bias of lora_B, times the same, to a bias
    diff, diff_b, diff_m    added as they are to a weight, a bias, a block's modulation

Modules may have any of the names in `farm.model.lora_names`. A file trained on the text-to-video
model fits too: it has nothing for the parts that only the image-to-video model has. A file is
applied as a whole or refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from farm.errors import PipelineLoadFailed
from farm.model.lora_names import LoraNames, Target, unmergeable_kind
from farm.model.parts import skeleton
from farm.model.weights.fingerprint import DIGITS, UNREMEMBERED, Digests
from farm.model.weights.tensorfile import SafetensorsFile
from farm.presets import Preset

MAX_NAMED = 3
"""Tensors that an error names; the rest are counted."""

UNREAD_RULES = ("use_rslora", "alpha_pattern")
"""PEFT's settings by which a module's factor is not alpha / rank."""


class Adapter:
    """One LoRA file, matched with the parameters of a model.

    Its tensors stay in the file until they are merged.
    """

    def __init__(
        self, path: Path, parameters: Mapping[str, torch.Size], digests: Digests = UNREMEMBERED
    ) -> None:
        """Raises PipelineLoadFailed that names the tensors which cannot be merged."""
        self.path = path
        self._tensors = SafetensorsFile(path)
        self._tensors.map()
        self.fingerprint = digests.of(path)[:DIGITS]
        targets = _targets(path, self._tensors, parameters)
        self.spelling = _spelling(targets.values())
        self._names = _names_by_role(path, targets)
        self.shapes = {parameter: parameters[parameter] for parameter in self._names}
        self._stated_alpha = _stated_alpha(path)
        for parameter in self._names:
            self._check_pair(parameter)
            self._check_shapes(parameter)
        _check_configuration(path)

    def __len__(self) -> int:
        """The number of tensors in the file."""
        return len(self._tensors)

    @property
    def ranks(self) -> list[int]:
        """The different ranks of its products, in ascending order."""
        return sorted({self._rank(names) for names in self._names.values() if "down" in names})

    def delta(self, parameter: str, device: str = "cpu") -> Tensor:
        """The change of one of the parameters in `shapes`, in float32."""
        tensors = {
            role: self._tensors[name].to(device, torch.float32)
            for role, name in self._names[parameter].items()
        }
        delta = torch.zeros(self.shapes[parameter], device=device)
        if "up" in tensors:
            product = tensors["up"].flatten(1) @ tensors["down"].flatten(1)
            delta += product.view_as(delta) * self._scale(parameter)
        if "up_bias" in tensors:
            delta += tensors["up_bias"].view_as(delta) * self._scale(_weight_of(parameter))
        if "diff" in tensors:
            delta += tensors["diff"].view_as(delta)
        return delta

    def _scale(self, weight: str) -> float:
        """The factor of a weight's product."""
        names = self._names[weight]
        rank = self._rank(names)
        if "alpha" in names:
            return self._tensors[names["alpha"]].item() / rank
        return 1.0 if self._stated_alpha is None else self._stated_alpha / rank

    def _rank(self, names: Mapping[str, str]) -> int:
        return self._tensors.info[names["down"]].shape[0]

    def _check_pair(self, parameter: str) -> None:
        """Refuses halves of a pair, and a bias of lora_B without its pair."""
        names = self._names[parameter]
        pair = {"up", "down"}
        present = names.keys() & {*pair, "alpha"}
        is_half_pair = bool(present) and not present >= pair
        weight_names = self._names.get(_weight_of(parameter), {})
        is_bias_alone = "up_bias" in names and "up" not in weight_names
        if is_half_pair or is_bias_alone:
            first = next(iter(names.values()))
            raise PipelineLoadFailed(f"{self.path}: {first} lacks the other half of its pair")

    def _check_shapes(self, parameter: str) -> None:
        """Refuses products and sums of another shape than the parameter's."""
        names = self._names[parameter]
        shape = self.shapes[parameter]
        shapes = {role: self._tensors.info[name].shape for role, name in names.items()}
        if "up" in shapes and not _is_product(shapes["up"], shapes["down"], shape):
            given = f"{list(shapes['up'])} by {list(shapes['down'])}"
            raise PipelineLoadFailed(
                f"{self.path}: {names['up']} is {given}; the model has {list(shape)}"
            )
        for role in ("diff", "up_bias"):
            if role in shapes and _without_ones(shapes[role]) != _without_ones(shape):
                given = f"{names[role]} is {list(shapes[role])}"
                raise PipelineLoadFailed(f"{self.path}: {given}; the model has {list(shape)}")
        if "alpha" in shapes and _without_ones(shapes["alpha"]):
            given = f"{names['alpha']} is {list(shapes['alpha'])}"
            raise PipelineLoadFailed(f"{self.path}: {given}; allowed: one number")


def check_adapter(path: Path, preset: Preset, digests: Digests) -> tuple[Adapter, int]:
    """A LoRA file matched with a preset's transformer, and how many parameters that has.

    No weights are needed. Raises PipelineLoadFailed that names the tensors which cannot be merged.
    """
    model = skeleton("transformer", preset.parts["transformer"])
    shapes = {name: each.shape for name, each in model.named_parameters()}
    return Adapter(path, shapes, digests), len(shapes)


def _targets(path: Path, tensors: Iterable[str], parameters: Iterable[str]) -> dict[str, Target]:
    """What each tensor of a file changes; PipelineLoadFailed unless each changes something."""
    names = [*tensors]
    if not names:
        raise PipelineLoadFailed(f"{path} holds no tensors")
    kinds = {name: kind for name in names if (kind := unmergeable_kind(name))}
    if kinds:
        raise PipelineLoadFailed(
            f"{path}: {' and '.join(sorted({*kinds.values()}))} is not merged "
            f"({_listed([*kinds])}); convert the file to a plain LoRA with the tool that trained "
            "it, or merge it into the base before `farm weights convert`"
        )
    known = LoraNames(parameters)
    targets = {name: known.target(name) for name in names}
    unknown = [name for name, target in targets.items() if target is None]
    if unknown:
        verb = "matches" if len(unknown) == 1 else "match"
        message = f"{path}: {_listed(unknown)} {verb} no parameter of the model"
        if len(unknown) == len(names):
            message += ", nor does any other of its tensors: it was trained for another model"
        raise PipelineLoadFailed(message)
    return {name: target for name, target in targets.items() if target}


def _names_by_role(path: Path, targets: Mapping[str, Target]) -> dict[str, dict[str, str]]:
    """By parameter and role, the tensor; PipelineLoadFailed for two with the same role."""
    names: dict[str, dict[str, str]] = {}
    for name, target in targets.items():
        first = names.setdefault(target.parameter, {}).setdefault(target.role, name)
        if first != name:
            raise PipelineLoadFailed(f"{path}: {first} and {name} mean the same")
    return names


def _spelling(targets: Iterable[Target]) -> str:
    """How a file's names are spelled, for people."""
    prefixes = sorted({target.prefix or "no prefix" for target in targets})
    namings = sorted({target.naming for target in targets} - {""})
    return f"{' and '.join(prefixes)}, {' and '.join(namings) or 'original'} names"


def _stated_alpha(path: Path) -> float | None:
    """The alpha of pairs without one, from the metadata that diffusers writes into the file."""
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get("lora_adapter_metadata", "{}")
    try:
        stated = json.loads(text)
        settings = {name.removeprefix("transformer."): value for name, value in stated.items()}
        alpha = settings.get("lora_alpha")
        rule = next((name for name in UNREAD_RULES if settings.get(name)), None)
        if rule:
            raise PipelineLoadFailed(
                f"{path}: its metadata sets {rule}, which is not read; "
                "save the file with an alpha for each module"
            )
        return None if alpha is None else float(alpha)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise PipelineLoadFailed(f"{path}: its metadata cannot be read: {error}") from error


def _check_configuration(path: Path) -> None:
    """Refuses a file that PEFT's adapter_config.json beside it scales.

    Fingerprints cover the file alone, so nothing beside it may change the weights.
    """
    file = path.with_name("adapter_config.json")
    if not file.is_file():
        return
    try:
        settings: dict[str, Any] = json.loads(file.read_text())
        rule = next((name for name in UNREAD_RULES if settings.get(name)), None)
        scale = float(settings.get("lora_alpha", 1)) / float(settings.get("r", 1))
    except (ValueError, AttributeError, TypeError, ZeroDivisionError, RecursionError) as error:
        raise PipelineLoadFailed(f"{file} is not a configuration: {error}") from error
    if rule:
        raise PipelineLoadFailed(
            f"{path}: adapter_config.json beside it sets {rule}, which is not read; "
            "save the file with an alpha for each module"
        )
    if scale != 1:
        raise PipelineLoadFailed(
            f"{path}: adapter_config.json beside it scales it by {scale:g}, which is not read; "
            "copy the file to another folder, and let jobs ask for that scale"
        )


def _weight_of(bias: str) -> str:
    return f"{bias.removesuffix('.bias')}.weight"


def _without_ones(shape: torch.Size) -> list[int]:
    return [length for length in shape if length != 1]


def _is_product(up: torch.Size, down: torch.Size, shape: torch.Size) -> bool:
    """Whether up @ down, both flattened to two axes, has the shape of the parameter, flattened."""
    return prod(up[1:]) == down[0] and up[0] == shape[0] and prod(down[1:]) == prod(shape[1:])


def _listed(names: list[str]) -> str:
    rest = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")
