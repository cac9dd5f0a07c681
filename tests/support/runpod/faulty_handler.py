"""Our handler with faults: steps that can be held, and one that ends the process.

EXIT_IN names a step that calls sys.exit, DIE_IN one that ends its process at once.
"""

from __future__ import annotations

import os
import sys

from farm.engine.step_context import StepContext, StepFunction
from farm.logs import configure
from farm.registry.outputs import StepOutput
from farm.route import StepKind
from farm.runpod.handler import serve
from farm.settings import Settings
from farm.steps import step_function
from tests.support.holding import holdable


def faulty(kind: StepKind) -> StepFunction:
    def run(ctx: StepContext) -> StepOutput:
        if ctx.step.id == os.environ.get("EXIT_IN"):
            sys.exit("/root/secret/place is full")
        if ctx.step.id == os.environ.get("DIE_IN"):
            os._exit(1)
        return holdable(step_function)(kind)(ctx)

    return run


if __name__ == "__main__":
    configure()
    serve(Settings.load(os.environ), faulty)
