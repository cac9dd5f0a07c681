"""The transformer as one job wants it: adapters merged in, weights rounded, blocks in host memory.

The base stays where it is, in the checkpoint's files. A switch makes anew, from there, exactly those weights that the
two variants do not share; so nothing is ever subtracted again, and the plain model comes back bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from farm.errors import InvalidInput
from farm.model.lora import Adapter
from farm.model.offload import place, release
from farm.model.quantise import check_scheme, quantisable, quantised


@dataclass(frozen=True)
class Variant:
    """What a job may change about the model."""

    adapters: tuple[tuple[Path, float], ...] = ()
    """LoRA files with their scales, merged in this order."""
    quant: str | None = None
    """One of `farm.model.quantise.SCHEMES`, or the model's own dtype."""
    resident: int | None = None
    """How many of the blocks' parameters stay on the device while the others stream in; None = all stay."""

    def __post_init__(self) -> None:
        if (
            self.quant and self.resident is not None
        ):  # torchao's tensors refuse to change their device under torch 2.11
            raise InvalidInput(
                "quant: rounded weights cannot be streamed; allowed: quant or offload_model, not both"
            )


Recipe = tuple[tuple[tuple[Path, float], ...], str | None]
"""How one weight differs from the base: the adapters that change it, and how it is rounded."""

PLAIN: Recipe = ((), None)


class Variants:
    """Brings one transformer from variant to variant."""

    def __init__(self, transformer: Any, base: Mapping[str, Tensor], device: str) -> None:
        """`transformer` has the weights of `base`, in its own dtypes, and may still be on the CPU."""
        self._model = transformer
        self._base = base
        self._device = device
        self._parameters = {
            name: (each.shape, each.dtype) for name, each in transformer.named_parameters()
        }
        self._linears = quantisable(transformer)
        self._adapters: dict[Path, Adapter] = {}
        self._now: dict[
            str, Recipe | None
        ] = {}  # of every weight that is not plain; None: a switch broke off there
        self._resident: tuple[int | None] | None = None

    @torch.no_grad()
    def switch(self, variant: Variant) -> bool:
        """Whether anything had to change. Raises PipelineLoadFailed before anything has."""
        if variant.quant:
            check_scheme(
                variant.quant,
                self._device,
                self._model.patch_embedding.weight.dtype,
            )
        recipes = self._recipes(variant)
        changed = [
            name
            for name in self._now | recipes
            if self._now.get(name, PLAIN) != recipes.get(name, PLAIN)
        ]
        if not changed and self._resident == (variant.resident,):
            return False
        release(self._model)
        self._resident = None
        for name in changed:
            self._make(name, recipes.get(name, PLAIN))
        # Prefetching copies from pinned memory, and torchao's tensors cannot be pinned.
        place(self._model, self._device, resident=variant.resident)
        self._resident = (variant.resident,)
        return True

    def _recipes(self, variant: Variant) -> dict[str, Recipe]:
        """How each weight that the variant changes is made."""
        recipes: dict[str, Recipe] = {
            name: ((), variant.quant) for name in self._linears if variant.quant
        }
        for path, scale in variant.adapters:
            for name in self._adapter(path).shapes:
                adapters, quant = recipes.get(name, PLAIN)
                recipes[name] = ((*adapters, (path, scale)), quant)
        return recipes

    def _adapter(self, path: Path) -> Adapter:
        if path not in self._adapters:
            self._adapters[path] = Adapter(
                path, {name: shape for name, (shape, _) in self._parameters.items()}
            )
        return self._adapters[path]

    def _make(self, name: str, recipe: Recipe) -> None:
        """One weight from its base: changes are added in float32 and rounded once, with the sum.

        It is made on the device and then lies where it lay: what streams in from the host never fills the device.
        """
        adapters, quant = recipe
        self._now[name] = None
        weight = self._base[name].to(self._device)
        for path, scale in adapters:
            weight = weight.float() + scale * self._adapter(path).change(name, self._device)
        weight = weight.to(self._parameters[name][1])
        made = quantised(weight, quant) if quant else weight
        module, _, leaf = name.rpartition(".")
        owner = self._model.get_submodule(module)
        setattr(
            owner,
            leaf,
            nn.Parameter(made.to(getattr(owner, leaf).device), requires_grad=False),
        )
        self._now[name] = recipe
        if recipe == PLAIN:
            del self._now[name]
