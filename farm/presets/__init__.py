"""The models: sizes, defaults, limits and configurations as data; the code has no other switch.

preset        what a preset is
infinitetalk  the 14 billion parameters, with guidance
flashtalk     the same network, distilled to four steps
miniature     the model that comes with this package, with the loop of either
"""

from __future__ import annotations

from farm.errors import InvalidInput, did_you_mean
from farm.presets.flashtalk import FLASHTALK
from farm.presets.infinitetalk import INFINITETALK
from farm.presets.miniature import MINIATURE, MINIATURE_FLASHTALK
from farm.presets.preset import (
    DISTILLED_STEPS,
    QUALITIES,
    QUANT_SHARES,
    REFERENCE_CARD,
    REFERENCE_DAY,
    Buckets,
    Preset,
    Quality,
    cropped_share,
    nearest_bucket,
)

__all__ = [
    "DISTILLED_STEPS",
    "FLASHTALK",
    "INFINITETALK",
    "MINIATURE",
    "MINIATURE_FLASHTALK",
    "PRESETS",
    "QUALITIES",
    "QUANT_SHARES",
    "REFERENCE_CARD",
    "REFERENCE_DAY",
    "Buckets",
    "Preset",
    "Quality",
    "cropped_share",
    "nearest_bucket",
    "preset",
]

PRESETS = {each.name: each for each in (MINIATURE, MINIATURE_FLASHTALK, INFINITETALK, FLASHTALK)}


def preset(name: str) -> Preset:
    """The preset of that name; InvalidInput with the known names if there is none."""
    if name in PRESETS:
        return PRESETS[name]
    known = ", ".join(sorted(PRESETS))
    raise InvalidInput(f"preset: got {name!r}; allowed: {known}{did_you_mean(name, PRESETS)}")
