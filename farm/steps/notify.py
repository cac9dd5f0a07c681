"""Station `notify`: the end of a job told to the receiver that its caller named, until that takes it or time is up."""

from __future__ import annotations

import logging
from typing import Any

from farm.engine.step_context import Later, StepContext
from farm.logs import log
from farm.net.guard import RequestFailed
from farm.net.signing import sign
from farm.net.webhook import post

GONE = 410
"""The answer of a receiver that wants no more of this."""


def notify(ctx: StepContext) -> dict[str, Any]:
    """`outcome`, which is `delivered` or `given up`, how many `tries` it took, and the `reason`.

    Raises Later as long as another try is due.
    """
    tries, pauses_s = ctx.lease.attempts, ctx.settings.webhook_pauses_s
    if tries > len(pauses_s) + 1:
        return _over(ctx, "given up", "the workers died that should call it")
    try:
        with ctx.timed("call"):
            status = _call(ctx)
    except RequestFailed as failure:
        status, reason = None, str(failure)
    else:
        reason = f"answered {status}"
    if status and 200 <= status < 300:
        return _over(ctx, "delivered", reason)
    if status == GONE or tries > len(pauses_s):
        return _over(ctx, "given up", reason)
    raise Later(reason, after_s=pauses_s[tries - 1])


def message_id(job_id: str) -> str:
    """The same at every try, so that a receiver knows what it has taken already."""
    return f"msg_{job_id}"


def _call(ctx: StepContext) -> int:
    """The status that the receiver answers with; raises Failure."""
    settings, registry = ctx.settings, ctx.registry
    result = registry.job(ctx.job_id).result
    if not (settings.webhook_secret and ctx.request.webhook and result):
        raise RequestFailed("FARM_WEBHOOK_SECRET is not set where this worker runs")
    body = result.model_dump_json().encode()
    # The broker's clock: receivers refuse what is five minutes off.
    now_s = int(registry.ledger.now())
    proof = sign(body, message_id=message_id(ctx.job_id), at_s=now_s, secrets=settings.webhook_secret)
    return post(
        ctx.request.webhook,
        body,
        {"Content-Type": "application/json", **proof},
        timeout_s=settings.webhook_timeout_s,
        allow=settings.fetch_allow,
        ca_file=settings.webhook_ca,
    )


def _over(ctx: StepContext, outcome: str, reason: str) -> dict[str, Any]:
    level = logging.INFO if outcome == "delivered" else logging.WARNING
    log(f"webhook_{outcome.replace(' ', '_')}", job_id=ctx.job_id, level=level, reason=reason)
    return {"outcome": outcome, "tries": ctx.lease.attempts, "reason": reason}
