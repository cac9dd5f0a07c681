"""Messages that were dispatched and led to no lease: those that wait, and those that are lost."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import product

from farm.engine.context import Context
from farm.errors import FarmError
from farm.job import PRIORITIES, Priority
from farm.queue.brokers import Broker
from farm.queue.brokers.broker import StepOfJob
from farm.queue.routing import priority_of, queue_of
from farm.registry import Registry
from farm.registry.statistics import running_steps
from farm.route import QUEUES, Queue, Step

SENDING_S = 2.0
"""Seconds after its dispatch in which a message may still be on its way to the broker."""

QueueName = tuple[Queue, Priority]

EXAMINED = 1000
"""Steps that are looked at in one search for lost messages."""

OLDEST = 100
"""Steps of which it is looked up in which queue they wait."""


def find_lost_messages(
    registry: Registry,
    broker: Broker,
    *,
    lease_s: float,
    thorough: bool = False,
    sending_s: float = SENDING_S,
) -> Collection[StepOfJob]:
    """Job and step of messages that were dispatched more than `lease_s` ago, are in no queue that
    is read and led to no lease: the sender died, or the worker that received it before it took the
    lease.

    A worker that is still loading the model looks the same. Messages are looked for only if fewer
    wait than have led to no lease, or if `thorough`: copies may hide that one is missing.
    """
    bridge_lives = registry.workers.count_alive()["bridge"] > 0
    at_bridges = set(registry.steps.waiting_for_bridges())
    stranded = set() if bridge_lives else at_bridges
    overdue = registry.steps.undelivered(for_s=lease_s)
    if not overdue:
        return stranded
    read = [queue for queue in QUEUES if bridge_lives or queue != "bridge"]
    queued = broker.queued(read)
    # Younger messages are in the queues too, so all are counted.
    undelivered = len(registry.steps.undelivered()) - len(stranded)
    if queued >= undelivered and not thorough:
        return stranded
    waiting = broker.waiting_steps(read)
    if waiting is not None:
        return set(overdue).difference(waiting).union(stranded)
    others = [step for step in overdue[:EXAMINED] if step not in stranded]
    missing = len(registry.steps.undelivered(for_s=sending_s)) - len(stranded) - queued
    lost = _as_many_as_are_lost(registry, others, missing=missing) if missing > 0 else []
    if thorough:
        in_order = [step for step in others if step not in at_bridges]
        lost += _passed_over(registry, in_order, lease_s=lease_s, sending_s=sending_s)
    return stranded.union(lost)


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


def _passed_over(
    registry: Registry, overdue: Sequence[StepOfJob], *, lease_s: float, sending_s: float
) -> list[StepOfJob]:
    """What RabbitMQ has lost although copies of other messages make up the number: it delivers a
    queue in order, so what was sent before a message that runs now does not wait any more.
    """
    running = running_steps(registry, lease_s=lease_s)
    newest: dict[QueueName, float] = {}
    for step, sent_at in zip(running, registry.steps.delivered_in_order(running), strict=True):
        name = _queue_name(registry, step)
        if name and sent_at:
            newest[name] = max(newest.get(name, 0.0), sent_at)
    waiting_since = registry.steps.waiting_since(overdue)
    return [
        step
        for step, since in zip(overdue, waiting_since, strict=True)
        if (name := _queue_name(registry, step)) and since + sending_s < newest.get(name, 0.0)
    ]


def _queue_name(registry: Registry, step_of_job: StepOfJob) -> QueueName | None:
    """The queue and the priority of a step's message; None if its job is unknown, or unreadable."""
    job_id, step_id = step_of_job
    try:
        request = registry.jobs.request(job_id)
    except FarmError:
        return None
    step = Step.parse(step_id)
    return queue_of(step, request), priority_of(step, request)


def oldest_waits(ctx: Context, *, limit: int = OLDEST) -> dict[tuple[str, ...], float]:
    """Seconds that the oldest message of each queue and priority has waited, by the registry; 0
    without any.

    Of a backlog only the `limit` oldest steps are read; a queue and priority that has none of them
    is left out.
    """
    steps = ctx.registry.steps.undelivered()[:limit]
    now = ctx.registry.now()
    waits: dict[tuple[str, ...], float] = {}
    if len(steps) < limit:
        waits = dict.fromkeys(product(QUEUES, PRIORITIES), 0.0)
    for step, at in zip(steps, ctx.registry.steps.dispatched_at(steps), strict=True):
        name = _queue_name(ctx.registry, step)
        if name and at is not None:
            waits[name] = max(waits.get(name, 0.0), now - at)
    return waits
