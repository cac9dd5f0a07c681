"""The queues of Redis: what is in them, and what they tell of their broker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis

from farm.client import Farm
from farm.queue.app import make_app
from farm.queue.brokers.redis import QUEUE_KEYS, RedisBroker, parse_message
from farm.queue.dispatch import dispatch
from farm.route import MUX, Step
from farm.settings import Settings
from tests.support.jobs import REQUEST

LISTS = {name: f"farm:{key}" for name, key in QUEUE_KEYS.items()}


@pytest.fixture
def farm(broker: str, tmp_path: Path) -> Farm:
    return Farm(settings=Settings(home=tmp_path, broker_url=broker))


@pytest.fixture
def client(broker: str) -> redis.Redis:
    return redis.Redis.from_url(broker)


def test_messages_are_read_as_job_and_step_oldest_first(farm, client):
    app = make_app(farm.context.settings)
    job_ids = [farm.submit(REQUEST).id for _ in range(2)]
    dispatch(app, farm.context, job_ids[1], Step("generate", 7))
    state = RedisBroker(farm.context.settings).state()
    oldest = [(job_id, "download") for job_id in reversed(job_ids)]
    assert state.queues["downloads", "normal"].oldest == oldest
    assert state.queues["gpu", "normal"].oldest == [(job_ids[1], "generate-0007")]
    lengths = {name: queue.length for name, queue in state.queues.items() if queue.length}
    assert lengths == {("downloads", "normal"): 2, ("gpu", "normal"): 1}
    assert state.unacked == 0


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


def test_the_last_step_is_read_without_a_chunk(farm, client):
    job = farm.submit(REQUEST)
    client.delete(*LISTS.values())
    dispatch(make_app(farm.context.settings), farm.context, job.id, MUX)
    (message,) = client.lrange(LISTS["cpu", "normal"], 0, -1)
    assert parse_message(message) == (job.id, "mux")
