"""One video, one set of weights: a chunk is made with those of the chunk before, or not at all."""

from __future__ import annotations

from farm.engine.step_context import DECLINE_S, MAX_DECLINED, Declined, StepContext
from farm.errors import WeightsChanged


def check_weights(ctx: StepContext, fingerprint: str) -> None:
    """Raises Declined if the chunk before was made with other weights than this worker's.

    Raises WeightsChanged once MAX_DECLINED attempts have ended so.
    """
    if ctx.step.chunk == 0:
        return
    expected = ctx.chunk_output(ctx.step.chunk - 1).weights
    if fingerprint == expected:
        return
    difference = f"the video was begun with the weights {expected}, this worker has {fingerprint}"
    if ctx.lease.declined < MAX_DECLINED:
        raise Declined(difference, after_s=DECLINE_S)
    raise WeightsChanged(
        f"{ctx.step.id}: {difference}, and so had every worker of {MAX_DECLINED} attempts before; "
        "submit the job again, and compare the gpu workers by `farm weights check`",
        retryable=True,
    )
