"""A worker leaves the steps of models that it does not serve to others."""

from __future__ import annotations

from farm.engine.step_context import Declined, StepContext

DECLINE_S = 10.0
"""Pause after a worker has left a step to others."""


def check_served(ctx: StepContext) -> None:
    """Raises Declined if this worker does not serve the model of the job."""
    served = ctx.settings.presets
    if ctx.request.model not in served:
        raise Declined(
            f"the job is for the model {ctx.request.model}, this worker serves {', '.join(served)}",
            after_s=DECLINE_S,
        )
