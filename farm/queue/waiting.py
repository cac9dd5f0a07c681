"""Messages that were dispatched and led to no lease: those that wait, and those that are lost."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import product

from farm.engine.context import Context
from farm.errors import FarmError
from farm.job import PRIORITIES, Priority
from farm.queue.brokers import Broker
from farm.queue.brokers.broker import StepOfJob
from farm.queue.dispatch import queue_of
from farm.registry import Registry
from farm.route import QUEUES, Step

SENDING_S = 2.0
"""Seconds after its dispatch in which a message may still be on its way to the broker."""

EXAMINED = 1000
"""Steps that are looked at in one search for lost messages."""

OLDEST = 100
"""Steps of which it is looked up in which queue they wait."""


def find_lost_messages(
    registry: Registry, broker: Broker, *, after_s: float, sending_s: float = SENDING_S
) -> Collection[StepOfJob]:
    """Job and step of messages that were dispatched more than `after_s` ago, are in no queue and
    led to no lease: the sender died, or the worker that received it before it took the lease.

    A worker that is still loading the model looks the same. Messages are looked for only if fewer
    wait than have led to no lease.
    """
    overdue = registry.steps.undelivered(for_s=after_s)
    if not overdue:
        return []
    queued = broker.queued()
    # Younger messages are in the queues too, so all are counted.
    if queued >= len(registry.steps.undelivered(for_s=0)):
        return []
    waiting = broker.waiting_steps()
    if waiting is not None:
        return set(overdue).difference(waiting)
    arrived = len(registry.steps.undelivered(for_s=sending_s))
    return _as_many_as_are_lost(registry, overdue[:EXAMINED], missing=arrived - queued)


def _as_many_as_are_lost(
    registry: Registry, overdue: Sequence[StepOfJob], *, missing: int
) -> list[StepOfJob]:
    """What a broker that does not show its messages (RabbitMQ) has lost, as far as can be told.

    First those that nothing waits for any more, for instance because the job was cancelled. Of the
    others as many as are missing, the oldest: once their steps are dispatched again, as many
    messages wait as have led to no lease. So a backlog never grows, however often this is called,
    and a lost message is found once those that were taken for it have been run, at the latest.
    """
    awaited = registry.steps.awaited(overdue)
    still_awaited = [
        step
        for step, is_awaited in zip(overdue, awaited, strict=True)
        if is_awaited and not registry.jobs.is_over(step[0])
    ]
    over = set(overdue).difference(still_awaited)
    return [*over, *still_awaited[: max(0, missing - len(over))]]


def oldest_waits(ctx: Context, *, limit: int = OLDEST) -> dict[tuple[str, ...], float]:
    """Seconds that the oldest message of each queue and priority has waited, by the registry; 0
    without any.

    Of a backlog only the `limit` oldest steps are read; a queue and priority that has none of them
    is left out.
    """
    steps = ctx.registry.steps.undelivered(for_s=0)[:limit]
    now = ctx.registry.now()
    waits: dict[tuple[str, ...], float] = {}
    if len(steps) < limit:
        waits = dict.fromkeys(product(QUEUES, PRIORITIES), 0.0)
    for (job_id, step_id), at in zip(steps, ctx.registry.steps.dispatched_at(steps), strict=True):
        try:
            request = ctx.registry.jobs.request(job_id)
        except FarmError:  # removed meanwhile, or of another version
            continue
        step = Step.parse(step_id)
        priority: Priority = "low" if step.spec.runs_after_end else request.priority
        name = (queue_of(step, request), priority)
        if at is not None:
            waits[name] = max(waits.get(name, 0.0), now - at)
    return waits
