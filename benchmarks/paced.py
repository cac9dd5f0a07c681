"""The farm's workers with chunks that take a fixed time: `noop`'s steps, PACED_CHUNKS chunks of
PACED_CHUNK_S seconds.

This is where `celery -A benchmarks.paced` finds its application, so importing it has an effect.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

from benchmarks.noop import OUTPUTS, app, noop_step
from farm.engine.step_context import StepContext, StepFunction
from farm.registry.outputs import EmbedOutput, StepOutput
from farm.route import StepKind
from farm.tasks import base

__all__ = ["app"]

CHUNKS = int(os.environ.get("PACED_CHUNKS", "3"))
CHUNK_S = float(os.environ.get("PACED_CHUNK_S", "2"))

_embedded = OUTPUTS["embed"]
assert isinstance(_embedded, EmbedOutput)  # noqa: S101
OUTPUTS["embed"] = _embedded.model_copy(update={"frames": 81 + 72 * (CHUNKS - 1), "chunks": CHUNKS})


def paced_step(ctx: StepContext) -> StepOutput:
    """Does nothing for as long as a chunk takes."""
    time.sleep(CHUNK_S)
    return noop_step(ctx)


def paced_step_function(kind: StepKind) -> StepFunction:
    return paced_step if kind == "generate" else noop_step


base.hooks = replace(base.hooks, step_function=paced_step_function)
