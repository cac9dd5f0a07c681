"""RabbitMQ as the broker: its queues, what they deliver first, and what it tells of itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue

from farm.client import Farm
from farm.errors import FarmUnreachable, InvalidInput
from farm.job import PRIORITIES
from farm.queue.app import make_app
from farm.queue.brokers import open_broker
from farm.queue.brokers.rabbitmq import QUEUE_ARGUMENTS, RabbitMQBroker
from farm.route import QUEUES
from farm.settings import Settings
from tests.support.jobs import REQUEST, job_request
from tests.support.rabbitmq import PASSWORD, RabbitMQ
from tests.support.waiting import wait_for


@pytest.fixture
def settings(broker: str, vhost: str, rabbitmq: RabbitMQ, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, broker_url=vhost, registry_url=broker, broker_api=rabbitmq.api)


@pytest.fixture
def farm(settings: Settings) -> Farm:
    return Farm(settings=settings)


@contextmanager
def received(settings: Settings, count: int) -> Iterator[list[Any]]:
    """The next downloads' messages, in the hands of a worker until the block ends."""
    with make_app(settings).connection() as connection, connection.channel() as channel:
        yield [wait_for(lambda: channel.basic_get("downloads")) for _ in range(count)]


def job_of(message: Any) -> str:
    return str(message.headers["id"]).rpartition("-download")[0]


def test_its_queues_are_replicated_and_hold_what_comes_back_often(settings, vhost):
    open_broker(settings).declare_queues()
    with Connection(vhost) as connection, connection.channel() as channel:
        for queue in QUEUES:
            assert QUEUE_ARGUMENTS["x-queue-type"] == "quorum"
            channel.queue_declare(queue, durable=True, auto_delete=False, arguments=QUEUE_ARGUMENTS)


def test_the_highest_priority_is_delivered_first(farm, settings):
    jobs = {priority: farm.submit(job_request(priority=priority)) for priority in PRIORITIES[::-1]}
    with received(settings, 1) as (first,):
        assert job_of(first) == jobs["high"].id


def test_a_message_that_comes_back_is_the_next_one_again_however_often(farm, settings):
    jobs = [farm.submit(REQUEST) for _ in range(2)]
    for _ in range(30):  # by default it would be gone after 20 times
        with received(settings, 1) as (message,):
            assert job_of(message) == jobs[0].id
            message.channel.basic_reject(message.delivery_tag, requeue=True)


def test_messages_are_counted_by_queue_and_what_is_not_known_is_absent(farm, settings):
    for _ in range(3):
        farm.submit(REQUEST)
    state = open_broker(settings.model_copy(update={"broker_api": None})).state()
    assert {name: queue.length for name, queue in state.queues.items()} == {
        (queue, ""): 3 if queue == "downloads" else 0 for queue in QUEUES
    }
    assert {queue.oldest for queue in state.queues.values()} == {None}
    assert (state.unacked, state.memory_bytes, state.aof_ok, state.evicted_keys) == (None,) * 4
    assert state.alarms == {}


def test_its_api_tells_memory_and_messages_in_hand(farm, settings):
    farm.submit(REQUEST)
    broker = open_broker(settings)
    with received(settings, 1):
        wait_for(lambda: broker.state().unacked == 1)
    assert wait_for(lambda: broker.state().memory_bytes) > 10_000_000


@pytest.mark.parametrize("resource", ["memory", "disk"])
def test_an_alarm_is_told_and_a_job_is_refused_at_once(farm, settings, rabbitmq, resource):
    farm.submit(REQUEST)
    broker = open_broker(settings)
    with rabbitmq.alarm(resource):
        alarms = broker.state().alarms
        assert alarms == {"memory": resource == "memory", "disk": resource == "disk"}
        with pytest.raises(FarmUnreachable, match="RabbitMQ takes no messages at the moment"):
            farm.submit(REQUEST)
    assert not any(broker.state().alarms.values())
    job = farm.submit(REQUEST)
    assert job.status().state == "queued"


def declare(url: str, **arguments: Any) -> None:
    """A queue that is there with other arguments than ours."""
    with Connection(url) as connection, connection.channel() as channel:
        Queue("gpu", Exchange("x"), queue_arguments=arguments)(channel).declare()


@pytest.mark.parametrize(
    ("arguments", "differs"),
    [
        ({"x-queue-type": "classic"}, "x-queue-type"),
        ({**QUEUE_ARGUMENTS, "x-delivery-limit": 20}, "x-delivery-limit"),
    ],
)
def test_a_queue_with_other_arguments_is_named_with_what_differs(
    settings, vhost, arguments, differs
):
    declare(vhost, **arguments)
    with pytest.raises(InvalidInput) as refused:
        open_broker(settings).declare_queues()
    message = str(refused.value)
    assert message.startswith("FARM_BROKER_URL: queue gpu in virtual host ")
    assert f"has another {differs}" in message
    assert "delete the queue; what waited in it is sent again" in message


def test_a_caller_learns_of_a_queue_with_other_arguments(farm, vhost):
    with Connection(vhost) as connection, connection.channel() as channel:
        Queue("downloads", Exchange("x"))(channel).declare()
    # It is no error of the request, and what a gateway answers says nothing of queues
    with pytest.raises(FarmUnreachable, match="FARM_BROKER_URL: queue downloads in virtual host"):
        farm.submit(REQUEST)


def test_two_farms_in_one_virtual_host_are_refused(farm, settings):
    farm.submit(REQUEST)
    second = settings.model_copy(update={"name": "second"})
    with pytest.raises(InvalidInput, match=r"virtual host .* which another farm uses"):
        open_broker(second).declare_queues()


def test_a_server_that_falls_silent_is_given_up(settings, rabbitmq):
    broker = RabbitMQBroker(settings)
    with (
        pytest.raises(FarmUnreachable),
        broker._connection() as connection,
        rabbitmq.paused(),
    ):
        connection.channel()


def test_a_server_that_is_down_or_refuses_is_named_without_its_password(settings, vhost, rabbitmq):
    down = settings.model_copy(update={"broker_url": "amqp://farm:secret@127.0.0.1:1/x"})
    with pytest.raises(FarmUnreachable, match=r"no RabbitMQ answers at 127.0.0.1:1") as refused:
        open_broker(down).queued()
    assert "secret" not in str(refused.value)
    wrong = settings.model_copy(update={"broker_url": vhost.replace(":pass", ":other")})
    with pytest.raises(FarmUnreachable, match=r"RabbitMQ at 127.0.0.1:.* refuses") as refused:
        open_broker(wrong).queued()
    assert PASSWORD not in str(refused.value)
    assert not refused.value.retryable


@pytest.mark.parametrize(
    ("api", "problem"),
    [
        ("http://farm:secret@127.0.0.1:1", "does not answer at http://127.0.0.1:1 ("),
        ("http://farm:secret@{host}", "does not answer at http://{host} (status 401)"),
    ],
)
def test_an_api_that_does_not_answer_hides_no_count(farm, settings, rabbitmq, api, problem):
    farm.submit(REQUEST)
    host = rabbitmq.api.rpartition("@")[2]
    wrong = settings.model_copy(update={"broker_api": api.format(host=host)})
    state = open_broker(wrong).state()
    assert state.queues["downloads", ""].length == 1
    assert (state.unacked, state.alarms) == (None, {})
    assert problem.format(host=host) in str(state.problem)
    assert "secret" not in str(state.problem)


def test_broker_and_api_are_reached_over_tls(certificate, tmp_path):
    server = RabbitMQ(tmp_path, certificate=certificate)
    try:
        settings = Settings(
            broker_url=server.url, broker_api=server.api, broker_ca=certificate, home=tmp_path
        )
        broker = open_broker(settings)
        broker.declare_queues()
        state = broker.state()
        assert sum(queue.length for queue in state.queues.values()) == 0
        assert state.alarms == {"memory": False, "disk": False}
    finally:
        server.stop()
