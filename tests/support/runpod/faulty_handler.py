"""Our handler with faults: steps that can be held, one that ends the process, time that is up.

EXIT_IN names a step that calls sys.exit, DIE_IN one that ends its process at once.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from farm.engine.step_context import StepContext, StepFunction
from farm.logs import configure
from farm.registry.outputs import StepOutput
from farm.route import StepKind
from farm.runpod.handler import serve
from farm.settings import Settings
from farm.steps import step_function
from tests.support.holding import holdable

HOUR_S = 3600


def faulty(kind: StepKind) -> StepFunction:
    def run(ctx: StepContext) -> StepOutput:
        if ctx.step.id == os.environ.get("EXIT_IN"):
            sys.exit("/root/secret/place is full")
        if ctx.step.id == os.environ.get("DIE_IN"):
            os._exit(1)
        return holdable(step_function)(kind)(ctx)

    return run


@contextmanager
def time_passed(settings: Settings) -> Iterator[None]:
    """An hour passes at once for all jobs of the workers that share a folder."""
    file = _late_file(settings)
    file.touch()
    try:
        yield
    finally:
        file.unlink()


def _clock(settings: Settings) -> float:
    return time.monotonic() + HOUR_S * _late_file(settings).exists()


def _late_file(settings: Settings) -> Path:
    return settings.folder / "an hour later"


if __name__ == "__main__":
    configure()
    settings = Settings.load(os.environ)
    serve(settings, faulty, partial(_clock, settings))
