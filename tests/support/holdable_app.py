"""The Celery application of test workers whose steps draw thumbnails and can be held.

This is where `celery -A tests.support.holdable_app` finds its application, so importing it has an
effect: it replaces the step functions of this process.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.thumbnail import app
from farm.tasks import base
from tests.support.holding import holdable

__all__ = ["app"]

base.hooks = replace(base.hooks, step_function=holdable(base.hooks.step_function))
