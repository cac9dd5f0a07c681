"""The places of jobs in the queues."""

from __future__ import annotations

import redis

from farm.client import Farm
from farm.engine.advance import claim_step
from farm.job import PRIORITIES, Priority
from farm.queue import positions
from farm.queue.brokers.redis import QUEUE_KEYS, parse_message
from farm.queue.positions import queue_positions
from farm.route import Step
from tests.support.jobs import job_request
from tests.support.steps import acquire, complete


def submit(farm: Farm, *priorities: Priority) -> list[str]:
    """Ids of jobs with these priorities, in the order of their submission."""
    return [farm.submit(job_request(priority=priority)).id for priority in priorities]


def test_places_are_in_the_order_in_which_workers_take_the_messages(farm, registry, broker):
    submit(farm, "low", "normal", "high", "low", "normal", "high")
    # The lists of the broker, as kombu asks for them; the next message is the last one of a list
    client = redis.Redis.from_url(broker)
    lists = [f"farm:{QUEUE_KEYS['downloads', priority]}" for priority in PRIORITIES]
    messages = [text for name in lists for text in reversed(client.lrange(name, 0, -1))]
    order = [parse_message(text)[0] for text in messages]
    assert queue_positions(registry) == dict(zip(order, range(1, 7), strict=True))


def test_a_chunk_waits_behind_no_download(farm, registry):
    one, another, third = submit(farm, "normal", "normal", "normal")
    for job_id in (another, third):
        for step in ("download", "embed"):
            complete(registry, step, job_id=job_id)
        assert claim_step(farm.context, job_id, Step("generate"))
    assert queue_positions(registry) == {one: 1, another: 1, third: 2}


def test_a_job_that_has_ended_or_runs_has_no_place(farm, registry):
    cancelled, running, waiting = submit(farm, "high", "high", "normal")
    assert farm.job(cancelled).cancel()
    assert acquire(registry, "download", job_id=running)
    assert queue_positions(registry) == {waiting: 1}
    assert farm.job(cancelled).queue_position() is None


def test_of_a_long_backlog_the_oldest_messages_have_a_place(farm, registry, monkeypatch):
    monkeypatch.setattr(positions, "PLACED", 2)
    jobs = submit(farm, "normal", "normal", "high")
    assert queue_positions(registry) == {jobs[0]: 1, jobs[1]: 2}
    assert farm.job(jobs[2]).queue_position() is None


def test_a_request_of_another_version_is_passed_over(farm, registry):
    unreadable, waiting = submit(farm, "normal", "normal")
    registry.backend.redis.set(f"farm:request:{unreadable}", '{"format": 99}')
    assert queue_positions(registry) == {waiting: 1}
