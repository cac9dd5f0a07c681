"""What trainers call the tensors of a LoRA file, and which parameter of the model each one changes.

A name is a prefix, a module and a role:

    diffusion_model.     blocks.0.self_attn.q    .lora_down.weight
    lora_unet_           blocks_0_self_attn_q    .lora_up.weight
    base_model.model.    blocks.0.attn1.to_q     .lora_A.weight

Modules have their original names or diffusers'. The underscored ones are looked up in a table made
of the model's own names, because `k_img` and `self_attn` have underscores of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from farm.model.weights.key_maps import original_transformer

PREFIXES = (
    "base_model.model.",  # PEFT
    "model.diffusion_model.",  # ComfyUI's checkpoints
    "diffusion_model.",  # ComfyUI's, and most others
    "pipe.dit.",  # DiffSynth
    "transformer.",  # diffusers
    "lora_unet__",  # VideoX-Fun
    "lora_unet_",  # kohya, musubi-tuner
)
"""The longer of two that begin alike is first."""

UNDERSCORED = ("lora_unet__", "lora_unet_")
"""Prefixes behind which a module's dots are underscores."""

ROLES = {
    ".lora_down.weight": ("weight", "down"),
    ".lora_A.weight": ("weight", "down"),
    ".lora_A.default.weight": ("weight", "down"),
    ".lora_up.weight": ("weight", "up"),
    ".lora_B.weight": ("weight", "up"),
    ".lora_B.default.weight": ("weight", "up"),
    ".lora_B.bias": ("bias", "up_bias"),
    ".lora_B.default.bias": ("bias", "up_bias"),
    ".alpha": ("weight", "alpha"),
    ".diff": ("weight", "diff"),
    ".diff_b": ("bias", "diff"),
    ".diff_m": ("modulation", "diff"),
}
"""The end of a tensor's name to the parameter of its module, and to its role in the change."""

UNMERGEABLE = {
    ".lokr_": "LoKr",
    ".hada_": "LoHa",
    ".dora_scale": "DoRA",
    ".lora_magnitude_vector": "DoRA",
}
"""Parts of names to the kinds of adapters that are not sums of products."""


@dataclass(frozen=True)
class Target:
    """What a tensor of a file changes, and how."""

    parameter: str
    """By its name in diffusers' layout."""
    role: str
    prefix: str
    naming: str
    """`original` or `diffusers`; empty for a module that has the same name in both."""


class LoraNames:
    """The names that files may use for the parameters of one model."""

    def __init__(self, parameters: Iterable[str]) -> None:
        self._meanings = _meanings(parameters)
        self._underscored = _underscored(self._meanings)

    def target(self, name: str) -> Target | None:
        """What a tensor changes; None for a name that fits no parameter."""
        prefix = next((each for each in PREFIXES if name.startswith(each)), "")
        stem = name.removeprefix(prefix)
        meanings = self._underscored if prefix in UNDERSCORED else self._meanings
        for ending, (leaf, role) in ROLES.items():
            meaning = meanings.get(f"{stem.removesuffix(ending)}.{leaf}")
            if stem.endswith(ending) and meaning:
                parameter, naming = meaning
                return Target(parameter, role, prefix, naming)
        return None


def unmergeable_kind(name: str) -> str | None:
    """The kind of adapter that a tensor belongs to, if that kind is not merged."""
    return next((kind for part, kind in UNMERGEABLE.items() if part in name), None)


def _meanings(parameters: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Every dotted name to the parameter that it means, and to the naming that it belongs to."""
    diffusers = {name: name for name in parameters}
    original = original_transformer(diffusers)
    # ComfyUI's wrapper of Wan attaches InfiniteTalk's audio projector under a name of its own.
    projector = {
        f"multitalk_{name}": parameter
        for name, parameter in original.items()
        if name.startswith("audio_proj.")
    }
    meanings = {name: (parameter, "diffusers") for name, parameter in diffusers.items()}
    for name, parameter in (original | projector).items():
        meanings[name] = (parameter, "" if name in diffusers else "original")
    return meanings


def _underscored(meanings: Mapping[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """The same with underscores in the module's name; one that has two meanings has none here."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for name, meaning in meanings.items():
        module, _, leaf = name.rpartition(".")
        parameter, _ = meaning
        found.setdefault(f"{module.replace('.', '_')}.{leaf}", {})[parameter] = meaning
    return {
        name: meaning
        for name, by_parameter in found.items()
        for meaning in by_parameter.values()
        if len(by_parameter) == 1
    }
