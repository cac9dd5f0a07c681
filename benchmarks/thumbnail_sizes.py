"""The miniature at 32 x 32 pixels, a sixteenth of its own: hours of video in minutes."""

from __future__ import annotations

from dataclasses import replace

from farm.presets import MINIATURE, MINIATURE_FLASHTALK, PRESETS

SIZES = {0.5: (32, 64), 1.0: (32, 32), 2.0: (64, 32)}
"""Height and width of a frame by the source's height / width."""


def use_thumbnails() -> None:
    """Replaces the sizes of the miniature's presets in this process."""
    for each in (MINIATURE, MINIATURE_FLASHTALK):
        PRESETS[each.name] = replace(each, sizes=dict.fromkeys(each.sizes, SIZES))
