"""The transformer as one job wants it: adapters merged, weights quantised, blocks streamed.

The base stays in the checkpoint's files. A switch rebuilds from there exactly those weights in
which the two variants differ; nothing is ever subtracted, so the plain model comes back bit for
bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from farm.model.lora import Adapter
from farm.model.offload import move_to_device, remove_offload_hooks
from farm.model.quantise import check_scheme, quantisable_weights, with_weight
from farm.model.weights.fingerprint import UNREMEMBERED, Digests


@dataclass(frozen=True)
class Variant:
    """What a job may change about the model."""

    adapters: tuple[tuple[Path, float], ...] = ()
    """LoRA files with their scales, merged in this order."""
    quant: str | None = None
    """One of `farm.model.quantise.SCHEMES`, or None for the model's own dtype."""
    resident_parameters: int | None = None
    """Parameters of the blocks that stay on the device while the others are streamed; None for all.
    """


Recipe = tuple[tuple[tuple[Path, float], ...], str | None]
"""How one weight differs from the base: the adapters that change it, and its quantisation."""

PLAIN: Recipe = ((), None)


class Variants:
    """Switches one transformer from variant to variant."""

    def __init__(
        self,
        transformer: Any,
        base: Mapping[str, Tensor],
        device: str,
        digests: Digests = UNREMEMBERED,
    ) -> None:
        """`transformer` has the weights of `base` in its own dtypes; it may be on the CPU."""
        self._model = transformer
        self._base = base
        self._device = device
        self._digests = digests
        self._shapes = {name: each.shape for name, each in transformer.named_parameters()}
        self._dtypes = {name: each.dtype for name, each in transformer.named_parameters()}
        self._quantisable = quantisable_weights(transformer)
        self._adapters: dict[Path, Adapter] = {}
        # The recipe of every weight that is not plain; None where a switch was interrupted.
        self._current: dict[str, Recipe | None] = {}
        self._is_placed = False
        self._resident_parameters: int | None = None

    @property
    def is_streamed(self) -> bool:
        """Whether blocks are copied from the host."""
        return self._resident_parameters is not None

    @torch.no_grad()
    def switch(self, variant: Variant) -> bool:
        """Switches to the variant and returns whether anything had to change.

        Raises PipelineLoadFailed before anything has changed.
        """
        if variant.quant:
            check_scheme(
                variant.quant,
                self._device,
                self._model.patch_embedding.weight.dtype,
            )
        recipes = self._recipes(variant)
        changed = [
            name
            for name in self._current | recipes
            if self._current.get(name, PLAIN) != recipes.get(name, PLAIN)
        ]
        same_place = self._is_placed and self._resident_parameters == variant.resident_parameters
        if not changed and same_place:
            return False
        remove_offload_hooks(self._model)
        self._is_placed = False
        for name in changed:
            self._rebuild(name, recipes.get(name, PLAIN), stays=variant.resident_parameters is None)
        # Last, because group offload copies the weights into pinned memory when it is enabled.
        move_to_device(
            self._model,
            self._device,
            resident_parameters=variant.resident_parameters,
        )
        self._resident_parameters = variant.resident_parameters
        self._is_placed = True
        return True

    def fingerprint(self, variant: Variant) -> str:
        """What a variant adds to the fingerprint of the weights: its adapters and its scheme.

        Raises PipelineLoadFailed for an adapter that does not fit.
        """
        added = [self._adapter(path).fingerprint for path, _ in variant.adapters]
        if variant.quant:
            added.append(variant.quant)
        return "".join(f"+{each}" for each in added)

    def _recipes(self, variant: Variant) -> dict[str, Recipe]:
        """The recipe of each weight that the variant changes."""
        recipes: dict[str, Recipe] = {}
        if variant.quant:
            recipes = dict.fromkeys(self._quantisable, ((), variant.quant))
        for path, scale in variant.adapters:
            for name in self._adapter(path).shapes:
                adapters, quant = recipes.get(name, PLAIN)
                recipes[name] = ((*adapters, (path, scale)), quant)
        return recipes

    def _adapter(self, path: Path) -> Adapter:
        if path not in self._adapters:
            self._adapters[path] = Adapter(path, self._shapes, self._digests)
        return self._adapters[path]

    def _rebuild(self, name: str, recipe: Recipe, *, stays: bool) -> None:
        """Replaces one weight by the base with its changes, added in float32 and rounded once.

        It is computed on the device and `stays` there, or is stored where the old one was: weights
        that are streamed from the host never fill the device.
        """
        adapters, quant = recipe
        self._current[name] = None
        weight = self._base[name].to(self._device)
        for path, scale in adapters:
            weight = weight.float() + scale * self._adapter(path).delta(name, self._device)
        weight = weight.to(self._dtypes[name])
        module, _, leaf = name.rpartition(".")
        owner = self._model.get_submodule(module)
        device = self._device if stays else getattr(owner, leaf).device
        if leaf == "weight" and isinstance(owner, nn.Linear):
            linear = with_weight(owner, weight, quant).to(device)
            self._model.set_submodule(module, linear)
        else:
            setattr(owner, leaf, nn.Parameter(weight.to(device), requires_grad=False))
        self._current[name] = recipe
        if recipe == PLAIN:
            del self._current[name]
