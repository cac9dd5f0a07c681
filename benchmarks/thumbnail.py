"""The farm's workers with the miniature at 32 x 32 pixels, a sixteenth of its own size: hours of video in minutes.

This is where `celery -A benchmarks.thumbnail` finds its application, so importing it does something: it puts that
size in place of the miniature's own.
"""

from __future__ import annotations

from dataclasses import replace

from farm.model.presets import MINIATURE, PRESETS
from tasks.celery import app

__all__ = ["app"]

PRESETS[MINIATURE.name] = replace(MINIATURE, sizes={name: {1.0: (32, 32)} for name in MINIATURE.sizes})
