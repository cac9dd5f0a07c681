"""The farm's workers with the miniature at 32 x 32 pixels: hours of video in minutes.

That is a sixteenth of its own pixels. This is where `celery -A benchmarks.thumbnail` finds its
application, so importing it has an effect: it replaces the sizes of the miniature's preset.
"""

from __future__ import annotations

from dataclasses import replace

from farm.presets import MINIATURE, MINIATURE_FLASHTALK, PRESETS
from tasks.celery import app

__all__ = ["app"]

SIZES = {0.5: (32, 64), 1.0: (32, 32), 2.0: (64, 32)}
"""Height and width of a frame by the source's height / width."""

PRESETS |= {
    each.name: replace(each, sizes=dict.fromkeys(each.sizes, SIZES))
    for each in (MINIATURE, MINIATURE_FLASHTALK)
}
