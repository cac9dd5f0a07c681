"""The step `notify`: the result of an ended job, sent to its webhook until it is accepted."""

from __future__ import annotations

import logging
from typing import Literal
from urllib.parse import urlsplit

from farm.engine.step_context import Postponed, RetryLater, StepContext
from farm.job.webhook import webhook_body
from farm.logs import log
from farm.net.guard import RequestFailed
from farm.net.signing import origin, receiver_secret, sign
from farm.net.webhook import post
from farm.registry.outputs import NotifyOutput
from farm.store import keys

GONE = 410
"""The status of a receiver that does not want the call at all."""


def notify(ctx: StepContext) -> NotifyOutput:
    """Calls the webhook once; raises RetryLater as long as another try is due."""
    attempts = ctx.lease.attempts
    delays_s = ctx.settings.webhook_retry_delays_s
    if attempts > len(delays_s) + 1:
        return _outcome(ctx, "failed", "the last attempt lost its worker")
    status = None
    try:
        with ctx.timed("call"):
            status = _call(ctx)
        reason = f"HTTP {status}"
    except RequestFailed as failure:
        reason = str(failure)
    if status is not None and 200 <= status < 300:
        return _outcome(ctx, "delivered", reason)
    if status == GONE or attempts > len(delays_s):
        return _outcome(ctx, "failed", reason)
    raise RetryLater(reason, after_s=delays_s[attempts - 1])


def message_id(job_id: str) -> str:
    """The same at every try, so that a receiver recognises a call that it has accepted already."""
    return f"msg_{job_id}"


def _call(ctx: StepContext) -> int:
    """The HTTP status of the receiver's answer; raises RequestFailed."""
    settings = ctx.settings
    if not settings.webhook_secret:
        raise RequestFailed("FARM_WEBHOOK_SECRET is not set where this worker runs")
    webhook = ctx.request.webhook
    result = ctx.registry.jobs.status(ctx.job_id).result
    if webhook is None or result is None:
        raise LookupError(f"job {ctx.job_id} has no webhook or no result")
    _take_call(ctx, webhook)
    body = webhook_body(result, without=_foreign_folder(ctx))
    secrets = [receiver_secret(secret, webhook) for secret in settings.webhook_secret]
    # The broker's clock: receivers refuse a signature that is five minutes off.
    signed_at_s = int(ctx.registry.wall_time())
    signature = sign(body, message_id=message_id(ctx.job_id), at_s=signed_at_s, secrets=secrets)
    return post(
        webhook,
        body,
        {"Content-Type": "application/json", **signature},
        timeout_s=settings.webhook_timeout_s,
        allow=settings.fetch_allow,
        ports=settings.fetch_port_ranges,
        ca_file=settings.webhook_ca,
    )


def _foreign_folder(ctx: StepContext) -> str | None:
    """The store of a farm with keys, if it is a folder, which is no affair of their holders."""
    if not ctx.settings.store_address.startswith("file:") or not ctx.registry.keys.any_created():
        return None
    return ctx.store.url(keys.FARM).removesuffix(keys.FARM)  # with links of the disk followed


def _take_call(ctx: StepContext, webhook: str) -> None:
    """Raises Postponed if the host has had its calls of this minute.

    Counted by name: TLS sends nothing to a server that cannot prove to have it.
    """
    per_minute = ctx.settings.webhook_calls_per_minute
    host = urlsplit(origin(webhook)).hostname or ""
    wait_s = ctx.registry.webhooks.take_call(host, per_minute=per_minute)
    if wait_s > 0:
        reason = f"{host} has had {per_minute} calls in a minute (FARM_WEBHOOK_CALLS_PER_MINUTE)"
        raise Postponed(reason, after_s=wait_s)


def _outcome(
    ctx: StepContext, outcome: Literal["delivered", "failed"], reason: str
) -> NotifyOutput:
    level = logging.INFO if outcome == "delivered" else logging.WARNING
    log(f"webhook_{outcome}", job_id=ctx.job_id, level=level, reason=reason)
    return NotifyOutput(outcome=outcome, attempts=ctx.lease.attempts, reason=reason)
