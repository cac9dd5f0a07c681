"""Messages that no worker receives: which of them are lost, and how long they wait."""

from __future__ import annotations

import time
from itertools import product
from pathlib import Path

import pytest
import redis

from farm.client import Farm
from farm.engine.advance import claim_due_step
from farm.job import PRIORITIES
from farm.queue.app import make_app
from farm.queue.brokers import open_broker
from farm.queue.brokers.redis import QUEUE_KEYS
from farm.queue.dispatch import dispatch, redispatch
from farm.queue.waiting import find_lost_messages, oldest_waits
from farm.route import QUEUES, Step
from farm.settings import Settings
from tests.support.jobs import REQUEST, job_request
from tests.support.steps import acquire

LISTS = {name: f"farm:{key}" for name, key in QUEUE_KEYS.items()}


@pytest.fixture
def client(broker: str) -> redis.Redis:
    return redis.Redis.from_url(broker)


def lost(farm: Farm, lease_s: float = 0) -> set[tuple[str, str]]:
    broker = open_broker(farm.context.settings)
    registry = farm.context.registry
    return set(find_lost_messages(registry, broker, lease_s=lease_s, sending_s=0))


# On Redis, which shows its messages


@pytest.mark.parametrize("priority", PRIORITIES)
def test_a_message_that_was_received_without_a_lease_is_lost(farm, client, priority):
    jobs = [farm.submit(job_request(priority=priority)) for _ in range(3)]
    assert lost(farm) == set()
    client.rpop(LISTS["downloads", priority])
    assert lost(farm, lease_s=60) == set()
    assert lost(farm) == {(jobs[0].id, "download")}


def test_a_lost_message_of_one_queue_is_missed_beside_those_of_the_other(farm, registry, client):
    farm.submit(REQUEST)
    job = farm.submit(REQUEST)
    acquire(registry, "download", job_id=job.id)
    client.lpop(LISTS["downloads", "normal"])
    registry.steps.claim_dispatch(job.id, "generate-0007")
    dispatch(make_app(farm.context.settings), farm.context, job.id, Step("generate", 7))
    assert lost(farm) == set()
    client.rpop(LISTS["gpu", "normal"])
    assert lost(farm) == {(job.id, "generate-0007")}


def test_a_lost_message_is_missed_beside_younger_ones(farm, registry, client):
    job = farm.submit(REQUEST)
    client.rpop(LISTS["downloads", "normal"])
    while not registry.steps.undelivered(for_s=0.2):
        time.sleep(0.05)
    farm.submit(REQUEST)
    assert lost(farm, lease_s=0.2) == {(job.id, "download")}


def test_a_message_whose_sender_died_before_it_was_sent_is_lost(farm, registry):
    registry.steps.claim_dispatch("a", "mux")
    assert lost(farm) == {("a", "mux")}


def test_a_message_that_led_to_a_lease_is_not_lost(farm, registry, client):
    job = farm.submit(REQUEST)
    client.rpop(LISTS["downloads", "normal"])
    acquire(registry, "download", job_id=job.id)
    assert lost(farm) == set()


def test_messages_of_no_step_hide_a_lost_one_only_until_they_are_received(farm, client):
    job = farm.submit(REQUEST)
    client.rpop(LISTS["downloads", "normal"])
    make_app(farm.context.settings).signature("another.task", queue="cpu").apply_async()
    assert lost(farm) == set()
    client.delete(*LISTS.values())
    assert lost(farm) == {(job.id, "download")}


# On RabbitMQ, which only counts them


@pytest.fixture
def uncounted(broker: str, vhost: str, tmp_path: Path) -> Farm:
    """A farm whose broker is RabbitMQ."""
    return Farm(settings=Settings(home=tmp_path, broker_url=vhost, registry_url=broker))


def take(farm: Farm) -> None:
    """Takes the next message out of the queue of downloads, as a worker would that then dies."""
    with make_app(farm.context.settings).connection() as connection:
        message = connection.channel().basic_get("downloads", no_ack=True)
    assert message is not None


def reap(farm: Farm) -> int:
    """Dispatches again what is lost, as the reaper does; how much that was."""
    ctx = farm.context
    for job_id, step_id in lost(farm):
        ctx.registry.steps.mark_lost(job_id, step_id)
    app = make_app(ctx.settings)
    orphaned = ctx.registry.jobs.orphaned()
    return sum(redispatch(app, ctx, job_id, claim_due_step) for job_id in orphaned)


def test_of_a_backlog_without_workers_nothing_is_dispatched_again(uncounted):
    for _ in range(100):
        uncounted.submit(REQUEST)
    assert sum(reap(uncounted) for _ in range(50)) == 0
    assert open_broker(uncounted.context.settings).queued() == 100


def test_as_many_are_dispatched_again_as_are_lost(uncounted):
    jobs = [uncounted.submit(REQUEST) for _ in range(10)]
    for _ in range(3):
        take(uncounted)
    assert lost(uncounted, lease_s=60) == set()
    assert lost(uncounted) == {(job.id, "download") for job in jobs[:3]}, "the oldest"
    assert [reap(uncounted) for _ in range(5)] == [3, 0, 0, 0, 0]
    assert open_broker(uncounted.context.settings).queued() == 10


def test_a_lost_message_is_found_although_older_ones_are_taken_for_it(uncounted):
    registry = uncounted.context.registry
    jobs = [uncounted.submit(REQUEST) for _ in range(3)]
    registry.entries.add("a", REQUEST)
    registry.steps.claim_dispatch("a", "download")  # then its sender dies
    for job in jobs:
        assert ("a", "download") not in lost(uncounted)
        reap(uncounted)
        assert open_broker(uncounted.context.settings).queued() <= len(registry.steps.undelivered())
        take(uncounted)  # by a worker
        acquire(registry, "download", job_id=job.id)
    take(uncounted)  # the copy of one of them, which leads to nothing
    assert lost(uncounted) == {("a", "download")}


def test_what_nothing_waits_for_any_more_is_forgotten_first(uncounted):
    registry = uncounted.context.registry
    jobs = [uncounted.submit(REQUEST) for _ in range(4)]
    jobs[3].cancel()
    take(uncounted)  # it was the cancelled one's, let us say
    assert lost(uncounted) == {(jobs[3].id, "download")}
    registry.steps.mark_lost(jobs[3].id, "download")
    assert lost(uncounted) == set()


def test_a_message_that_is_just_being_sent_is_not_missed(uncounted):
    settings, registry = uncounted.context.settings, uncounted.context.registry
    uncounted.submit(REQUEST)
    registry.entries.add("a", REQUEST)
    registry.steps.claim_dispatch("a", "download")
    broker = open_broker(settings)
    assert list(find_lost_messages(registry, broker, lease_s=0, sending_s=60)) == []


def test_the_oldest_wait_is_known_by_queue_and_priority(uncounted):
    ctx = uncounted.context
    uncounted.submit(job_request(priority="high"))
    ctx.registry.entries.add("a", job_request(placement="local"))
    ctx.registry.steps.claim_dispatch("a", "generate-0003")
    waits = oldest_waits(ctx)
    waiting = {name for name, wait_s in waits.items() if wait_s}
    assert waiting == {("downloads", "high"), ("gpu-local", "normal")}
    assert set(waits) == set(product(QUEUES, PRIORITIES))
    assert max(waits.values()) < 60


def test_of_a_backlog_only_the_oldest_waits_are_known(uncounted):
    for priority in ("low", "normal", "high"):
        uncounted.submit(job_request(priority=priority))
    oldest = oldest_waits(uncounted.context, limit=2)
    assert set(oldest) == {("downloads", "low"), ("downloads", "normal")}
