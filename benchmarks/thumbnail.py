"""The farm's workers with the miniature at 32 x 32 pixels.

This is where `celery -A benchmarks.thumbnail` finds its application, so importing it has an effect:
it replaces the sizes of the miniature's presets.
"""

from benchmarks.thumbnail_sizes import use_thumbnails
from farm.tasks.celery import app

__all__ = ["app"]

use_thumbnails()
