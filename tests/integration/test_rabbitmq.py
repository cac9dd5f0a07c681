"""A whole farm whose broker is RabbitMQ, and whose registry is a Redis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kombu import Connection

from farm import Farm
from farm.job.files import read_payload
from farm.monitoring.exporter import FarmCollector, exposition
from farm.net.address import ListenAddress
from farm.queue.app import make_app
from farm.queue.brokers import open_broker
from farm.queue.dead_letters import DEAD_LETTERS, require_redis
from farm.route import QUEUES
from tests.conftest import EXAMPLES
from tests.integration.conftest import ENDLESS, ONE_CHUNK, SMALL
from tests.support.commands import environ_of, run_farm_command
from tests.support.flower import FLOWER_AUTH, ask_flower
from tests.support.holding import hold, job_held_at
from tests.support.ports import free_port
from tests.support.processes import kill_children, kill_group
from tests.support.rabbitmq import RabbitMQ
from tests.support.small_farm import KINDS, SmallFarm, small_farm
from tests.support.waiting import wait_for, wait_for_stage

TWO_CHUNKS = {"max_frame_num": 37}

pytestmark = pytest.mark.usefixtures("restarted")


@pytest.fixture(scope="module")
def url(rabbitmq: RabbitMQ) -> str:
    return rabbitmq.new_vhost()


@pytest.fixture(scope="module")
def supervisor(
    rabbitmq: RabbitMQ, url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SmallFarm]:
    fields = {"broker_url": url, "broker_api": rabbitmq.api, "remote_control": True}
    with small_farm(
        tmp_path_factory.mktemp("home"),
        flower=ListenAddress("127.0.0.1", free_port()),
        flower_auth=FLOWER_AUTH,
        **fields,
    ) as running:
        yield running


def queue_names(rabbitmq: RabbitMQ, url: str) -> set[str]:
    """The queues of a virtual host that outlive their connections."""
    found = rabbitmq.request("GET", f"queues/{url.rpartition('/')[2]}")
    return {each["name"] for each in found if each["durable"]}


def test_a_job_goes_through_and_there_are_no_queues_but_the_farms(
    farm: Farm, small: dict[str, Any], rabbitmq: RabbitMQ, url: str
) -> None:
    job = farm.submit(small)

    assert job.result().status == "success"

    assert queue_names(rabbitmq, url) == set(QUEUES)
    assert open_broker(farm.context.settings).queued() == 0


def test_two_speakers_become_one_video(farm: Farm) -> None:
    payload = read_payload(EXAMPLES / "two_speakers_para.json")
    job = farm.submit({**SMALL, **ONE_CHUNK, **payload, "sample_steps": 1})

    assert job.result().status == "success"


def test_a_cancelled_job_leaves_no_message(farm: Farm, small: dict[str, Any]) -> None:
    job = farm.submit({**small, **ENDLESS})
    wait_for_stage(job, "chunk_0_sampling_")

    farm.cancel([job.id], by="a test")

    assert job.wait().state == "cancelled"
    broker = open_broker(farm.context.settings)
    wait_for(lambda: broker.state().unacked == 0 and broker.queued() == 0)


def test_a_draining_worker_leaves_its_chunk_to_the_next_in_front_of_its_queue(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    worker = supervisor.children["gpu"]
    with hold(supervisor.settings, "chunk_1_sampling_50") as release:
        job = farm.submit({**small, **TWO_CHUNKS, "sample_steps": 40})
        wait_for_stage(job, "chunk_1_sampling_50")
        second = farm.submit({**small, **ONE_CHUNK})
        wait_for(lambda: open_broker(farm.context.settings).queued())
        worker.terminate()
        wait_for(lambda: "Warm shutdown" in supervisor.log("gpu").read_text())
        release()
        worker.wait()
    before = supervisor.log("gpu").stat().st_size
    supervisor.restart_dead()

    assert job.result().status == "success"
    assert second.result().status == "success"
    log = supervisor.log("gpu").read_text()[before:]
    assert log.index(f"{job.id}-c0001-a1") < log.index(f"{second.id}-c0000-a1")


def test_a_job_outlives_the_kill_of_a_child_and_of_a_worker(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    with job_held_at("chunk_1_sampling_50", farm, small) as job:
        kill_children(supervisor.children["gpu"].pid)
    with hold(supervisor.settings, "chunk_3_sampling_50"):
        wait_for_stage(job, "chunk_3_sampling_50")
        kill_group(supervisor.children["gpu"])
    supervisor.restart_dead()

    assert job.result().status == "success"


def test_lost_messages_are_sent_again(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any], url: str
) -> None:
    kill_group(supervisor.children["gpu"])
    jobs = [farm.submit({**small, **ONE_CHUNK}) for _ in range(2)]
    with Connection(url) as connection, connection.channel() as channel:
        for _ in jobs:
            wait_for(lambda: channel.basic_get("gpu", no_ack=True))

    supervisor.restart_dead()

    assert [job.result().status for job in jobs] == ["success", "success"]


def test_a_job_that_waited_in_redis_continues_after_the_change_to_rabbitmq(
    farm: Farm, small: dict[str, Any]
) -> None:
    settings = farm.context.settings
    before = Farm(settings=settings.model_copy(update={"broker_url": settings.registry_url}))

    job = before.submit({**small, **ONE_CHUNK})

    assert open_broker(before.context.settings).queued() == 1
    assert job.result().status == "success"


def test_messages_that_no_step_can_be_read_from_become_dead_letters(
    farm: Farm, small: dict[str, Any], url: str
) -> None:
    bodies = ["no JSON", "[]", "{}", "[[], {}, {}]"]
    with Connection(url) as connection, connection.channel() as channel:
        producer = connection.Producer(channel)
        for body in bodies:
            for kind in ("application/json", "application/x-python-serialize"):
                producer.publish(
                    body, routing_key="cpu", content_type=kind, content_encoding="utf-8"
                )
    backend = require_redis(farm.context.registry)

    wait_for(lambda: backend.redis.llen(backend.key(DEAD_LETTERS)) == 2 * len(bodies))

    assert farm.submit({**small, **ONE_CHUNK}).result().status == "success"


def test_a_killed_server_is_waited_for(
    farm: Farm, small: dict[str, Any], rabbitmq: RabbitMQ
) -> None:
    with job_held_at("chunk_1_sampling_50", farm, small) as job:
        rabbitmq.kill()
    rabbitmq.start()

    assert job.result().status == "success"


def test_a_job_goes_on_after_an_alarm_of_which_the_exporter_tells(
    farm: Farm, small: dict[str, Any], rabbitmq: RabbitMQ
) -> None:
    with hold(farm.context.settings, "chunk_0_sampling_50") as release:
        job = farm.submit({**small, **TWO_CHUNKS})
        wait_for_stage(job, "chunk_0_sampling_50")
        with rabbitmq.alarm("memory"):
            text = exposition(FarmCollector(farm.context.settings))
            assert 'farm_broker_alarm{resource="memory"} 1.0' in text
            release()  # and the next message is sent in vain, or waits
            committed = farm.context.registry.steps.committed
            wait_for(lambda: committed(job.id, "generate-0000"))

    assert job.result().status == "success"


def test_remote_control_and_flower_reach_the_workers(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    control = make_app(supervisor.settings).control
    assert len(wait_for(lambda: control.ping(timeout=2))) == len(KINDS)
    assert supervisor.flower is not None
    flower = supervisor.flower
    job = farm.submit({**small, **ONE_CHUNK})
    job.wait()

    def lengths() -> dict[str, int | None]:
        ask_flower(flower, "/api/workers?refresh=1")
        found = ask_flower(flower, "/api/queues/length")["active_queues"]
        return {each["name"]: each.get("messages") for each in found}  # not before it is counted

    wait_for(lambda: f"{job.id}-mux-a1" in ask_flower(flower, "/api/tasks"))
    assert wait_for(lambda: lengths().get("gpu") == 0)


def test_a_worker_refuses_a_queue_of_other_arguments_and_its_deletion_loses_no_job(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any], url: str
) -> None:
    # Given a job that waits in a queue as Celery declares one by default
    kill_group(supervisor.children["cpu"])
    job = farm.submit({**small, **ONE_CHUNK})
    with Connection(url) as connection, connection.channel() as channel:
        channel.queue_delete("cpu")
        channel.queue_declare("cpu", durable=True, auto_delete=False)
    # When a worker is started, then it says which queue it is and what differs
    worker = run_farm_command(environ_of(supervisor.settings), "worker", "cpu", check=False)
    assert worker.returncode == 1
    assert "queue cpu in virtual host" in worker.stderr
    assert "x-queue-type (received 'quorum' but current is 'classic')" in worker.stderr
    # When the queue is deleted, with the message in it, then that is sent again
    with Connection(url) as connection, connection.channel() as channel:
        channel.queue_delete("cpu")
    supervisor.restart_dead()
    assert job.result().status == "success"
