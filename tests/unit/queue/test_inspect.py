"""Messages that are nowhere any more, in a broker whose messages nobody takes but the tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from farm.client import Farm
from farm.route import Step
from farm.queue.app import TASK_ROUTES, PRIORITIES, make_app
from farm.queue.dispatch import dispatch
from farm.queue.inspect import QUEUE_KEYS, find_lost_messages
from farm.registry import Registry, open_registry
from farm.settings import Settings

GIVEN = {"prompt": "x", "cond_video": "https://e.org/x.png", "cond_audio": {"person1": "https://e.org/x.wav"}}


@pytest.fixture
def farm(broker: str, tmp_path: Path) -> Farm:
    return Farm(settings=Settings(home=tmp_path, broker_url=broker))


@pytest.fixture
def registry(farm: Farm) -> Registry:
    return farm.context.registry


@pytest.fixture
def client(broker: str) -> redis.Redis:
    return redis.Redis.from_url(broker)


@pytest.mark.parametrize("priority", PRIORITIES)
def test_a_message_that_somebody_took_along_is_lost(farm, registry, client, priority):
    jobs = [farm.submit({**GIVEN, "priority": priority}) for _ in range(3)]
    assert find_lost_messages(registry, after_s=0) == set()
    client.rpop(QUEUE_KEYS["cpu", priority])
    assert find_lost_messages(registry, after_s=60) == set()
    assert find_lost_messages(registry, after_s=0) == {(jobs[0].id, "download")}


def test_a_lost_message_of_one_queue_is_missed_beside_those_of_the_other(farm, registry, client):
    farm.submit(GIVEN)
    job = farm.submit(GIVEN)
    registry.steps.acquire(job.id, "download", lease_s=60, max_attempts=3)
    client.lpop(QUEUE_KEYS["cpu", "normal"])
    registry.steps.claim_dispatch(job.id, "generate-0007", window_s=60)
    dispatch(make_app(farm.context.settings), farm.context, job.id, Step("generate", 7))
    assert find_lost_messages(registry, after_s=0) == set()
    client.rpop(QUEUE_KEYS["gpu", "normal"])
    assert find_lost_messages(registry, after_s=0) == {(job.id, "generate-0007")}


def test_a_message_whose_sender_died_before_sending_it_is_lost(farm, registry):
    registry.steps.claim_dispatch("a", "mux", window_s=60)
    assert find_lost_messages(registry, after_s=0) == {("a", "mux")}


def test_a_message_that_led_to_a_lease_is_in_a_hand(farm, registry, client):
    job = farm.submit(GIVEN)
    client.rpop(QUEUE_KEYS["cpu", "normal"])
    registry.steps.acquire(job.id, "download", lease_s=60, max_attempts=3)
    assert find_lost_messages(registry, after_s=0) == set()


def test_messages_that_are_no_tickets_hide_a_lost_one_only_until_they_are_gone(farm, registry, client):
    job = farm.submit(GIVEN)
    client.rpop(QUEUE_KEYS["cpu", "normal"])
    make_app(farm.context.settings).signature(TASK_ROUTES["reap"].task, queue="cpu").apply_async()
    assert find_lost_messages(registry, after_s=0) == set()
    client.delete(*QUEUE_KEYS.values())
    assert find_lost_messages(registry, after_s=0) == {(job.id, "download")}


def test_a_farm_in_one_process_loses_no_messages():
    registry = open_registry("memory://")
    registry.steps.claim_dispatch("a", "mux", window_s=60)
    assert registry.steps.undelivered(for_s=0)
    assert find_lost_messages(registry, after_s=0) == set()
