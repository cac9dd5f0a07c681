"""The queues of a broker whose messages no worker receives: what is in them, and what is lost."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import redis

from farm.client import Farm
from farm.errors import FarmUnreachable
from farm.job import PRIORITIES
from farm.queue.app import make_app
from farm.queue.dispatch import dispatch
from farm.queue.inspect import (
    QUEUE_KEYS,
    find_lost_messages,
    parse_message,
    queue_states,
    require_broker,
    require_broker_client,
)
from farm.registry import Registry, open_registry
from farm.route import MUX, Step
from farm.settings import Settings
from tests.support.jobs import REQUEST, job_request
from tests.support.steps import acquire

LISTS = {name: f"farm:{key}" for name, key in QUEUE_KEYS.items()}


@pytest.fixture
def farm(broker: str, tmp_path: Path) -> Farm:
    return Farm(settings=Settings(home=tmp_path, broker_url=broker))


@pytest.fixture
def registry(farm: Farm) -> Registry:
    return farm.context.registry


@pytest.fixture
def client(broker: str) -> redis.Redis:
    return redis.Redis.from_url(broker)


def lost(registry: Registry, after_s: float = 0) -> set[tuple[str, str]]:
    return find_lost_messages(registry, after_s=after_s)


# Lost messages


@pytest.mark.parametrize("priority", PRIORITIES)
def test_a_message_that_was_received_without_a_lease_is_lost(farm, registry, client, priority):
    jobs = [farm.submit(job_request(priority=priority)) for _ in range(3)]
    assert lost(registry) == set()
    client.rpop(LISTS["downloads", priority])
    assert lost(registry, after_s=60) == set()
    assert lost(registry) == {(jobs[0].id, "download")}


def test_a_lost_message_of_one_queue_is_missed_beside_those_of_the_other(farm, registry, client):
    farm.submit(REQUEST)
    job = farm.submit(REQUEST)
    acquire(registry, "download", job_id=job.id)
    client.lpop(LISTS["downloads", "normal"])
    registry.steps.claim_dispatch(job.id, "generate-0007", window_s=60)
    dispatch(make_app(farm.context.settings), farm.context, job.id, Step("generate", 7))
    assert lost(registry) == set()
    client.rpop(LISTS["gpu", "normal"])
    assert lost(registry) == {(job.id, "generate-0007")}


def test_a_lost_message_is_missed_beside_younger_ones(farm, registry, client):
    job = farm.submit(REQUEST)
    client.rpop(LISTS["downloads", "normal"])
    while not registry.steps.undelivered(for_s=0.2):
        time.sleep(0.05)
    farm.submit(REQUEST)
    assert lost(registry, after_s=0.2) == {(job.id, "download")}


def test_a_message_whose_sender_died_before_it_was_sent_is_lost(registry):
    registry.steps.claim_dispatch("a", "mux", window_s=60)
    assert lost(registry) == {("a", "mux")}


def test_a_message_that_led_to_a_lease_is_not_lost(farm, registry, client):
    job = farm.submit(REQUEST)
    client.rpop(LISTS["downloads", "normal"])
    acquire(registry, "download", job_id=job.id)
    assert lost(registry) == set()


def test_messages_of_no_step_hide_a_lost_one_only_until_they_are_received(farm, registry, client):
    job = farm.submit(REQUEST)
    client.rpop(LISTS["downloads", "normal"])
    make_app(farm.context.settings).signature("another.task", queue="cpu").apply_async()
    assert lost(registry) == set()
    client.delete(*LISTS.values())
    assert lost(registry) == {(job.id, "download")}


def test_a_farm_in_memory_loses_no_messages():
    registry = open_registry("memory://")
    registry.steps.claim_dispatch("a", "mux", window_s=60)
    assert registry.steps.undelivered(for_s=0)
    assert lost(registry) == set()


# Reading messages


def test_messages_are_read_as_job_and_step_oldest_first(farm, client):
    app = make_app(farm.context.settings)
    job_ids = [farm.submit(REQUEST).id for _ in range(2)]
    dispatch(app, farm.context, job_ids[1], Step("generate", 7))
    states, unacked = queue_states(require_broker(farm.context.registry))
    oldest = [(job_id, "download") for job_id in reversed(job_ids)]
    assert states["downloads", "normal"].oldest == oldest
    assert states["gpu", "normal"].oldest == [(job_ids[1], "generate-0007")]
    lengths = {name: state.length for name, state in states.items() if state.length}
    assert lengths == {("downloads", "normal"): 2, ("gpu", "normal"): 1}
    assert unacked == 0


def test_a_message_of_no_step_is_not_parsed(farm, client):
    app = make_app(farm.context.settings)
    app.signature("another.task", queue="cpu").apply_async()
    (message,) = [each for key in LISTS.values() for each in client.lrange(key, 0, -1)]
    assert json.loads(message)["headers"]["task"] == "another.task"
    assert parse_message(message) is None


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        pytest.param("[" * 100_000, id="nested without end"),
        "[]",
        "{}",
        '{"headers": {"task": 7}}',
        '{"headers": {"task": "farm.mux"}}',
        '{"headers": {"task": "farm.mux"}, "body": "%"}',
        '{"headers": {"task": "farm.mux"}, "body": "W10="}',
    ],
)
def test_anything_else_in_a_queue_is_not_parsed(message):
    assert parse_message(message) is None


def test_the_queues_of_a_farm_in_memory_cannot_be_read():
    with pytest.raises(FarmUnreachable, match="a broker in memory serves one process only"):
        require_broker_client(open_registry("memory://"))


def test_the_last_step_is_read_without_a_chunk(farm, client):
    job = farm.submit(REQUEST)
    client.delete(*LISTS.values())
    dispatch(make_app(farm.context.settings), farm.context, job.id, MUX)
    (message,) = client.lrange(LISTS["cpu", "normal"], 0, -1)
    assert parse_message(message) == (job.id, "mux")
