"""The farm's numbers, from a registry and a broker whose messages nobody takes."""

from __future__ import annotations

import json
import socket
import urllib.request
from pathlib import Path

import pytest
import redis
from prometheus_client import CollectorRegistry

from farm.client import Farm
from farm.job import JobRequest
from farm.metrics import METRICS
from farm.monitoring.exporter import FarmCollector, serve, exposition
from farm.net.address import Address
from farm.queue.app import TASK_ROUTES, PRIORITIES, make_app
from farm.registry.steps import EstimateUpdate
from farm.settings import Settings

GIVEN = {
    "prompt": "x",
    "cond_video": "https://example.org/face.png",
    "cond_audio": {"person1": "https://example.org/voice.wav"},
}


@pytest.fixture
def settings(broker: str, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", broker_url=broker)


@pytest.fixture
def farm(settings: Settings) -> Farm:
    return Farm(settings=settings)


def value(settings: Settings, name: str, **labels: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(FarmCollector(settings))
    return registry.get_sample_value(name, labels)


def age(farm: Farm, job_id: str, step_id: str, seconds: float) -> None:
    """Has the message for a product sent that long ago."""
    backend, key = farm.context.registry.backend, f"product:{job_id}:{step_id}"
    (exposition,) = backend.get_all([key])
    record = json.loads(exposition)
    backend.swap(key, exposition, json.dumps({**record, "rung_at": record["rung_at"] - seconds}))


@pytest.mark.parametrize("priority", PRIORITIES)
def test_messages_are_counted_by_queue_and_priority(farm, settings, priority):
    for _ in range(3):
        farm.submit({**GIVEN, "priority": priority})
    lengths = {each: value(settings, "farm_queue_length", queue="cpu", priority=each) for each in PRIORITIES}
    assert lengths == {**dict.fromkeys(PRIORITIES, 0), priority: 3}
    assert value(settings, "farm_queue_length", queue="gpu", priority=priority) == 0


@pytest.mark.parametrize("priority", PRIORITIES)
def test_the_oldest_message_waits_since_it_was_rung_for(farm, settings, priority):
    jobs = [farm.submit({**GIVEN, "priority": priority}) for _ in range(2)]
    age(farm, jobs[0].id, "download", 500)
    waited = {each: value(settings, "farm_queue_oldest_seconds", queue="cpu", priority=each) for each in PRIORITIES}
    assert 500 <= waited.pop(priority) < 530
    assert set(waited.values()) == {0}


def test_a_chunks_message_waits_since_its_own_ring(farm, settings):
    ctx = farm.context
    ctx.registry.jobs.add("a", JobRequest.parse(GIVEN))
    ctx.registry.steps.claim_dispatch("a", "generate-0007", window_s=15)
    age(farm, "a", "generate-0007", 90)
    make_app(settings).signature("farm.generate", args=("a", 7), queue="gpu", priority=3, immutable=True).apply_async()
    assert 90 <= value(settings, "farm_queue_oldest_seconds", queue="gpu", priority="normal") < 120


def test_rounds_of_the_reaper_hide_no_ticket(farm, settings):
    app = make_app(settings)
    app.signature(TASK_ROUTES["reap"].task, queue="cpu", priority=3).apply_async()
    job = farm.submit(GIVEN)
    age(farm, job.id, "download", 500)
    assert value(settings, "farm_queue_oldest_seconds", queue="cpu", priority="normal") >= 500


def test_a_queue_of_rounds_alone_has_no_age(settings):
    make_app(settings).signature(TASK_ROUTES["reap"].task, queue="cpu", priority=3).apply_async()
    assert value(settings, "farm_queue_length", queue="cpu", priority="normal") == 1
    assert value(settings, "farm_queue_oldest_seconds", queue="cpu", priority="normal") == 0


@pytest.mark.parametrize("message", ["", "x", "[]", "{}", '{"headers": {"task": "farm.mux"}, "body": "bm8="}'])
def test_a_message_of_somebody_else_hides_no_number(settings, broker, message):
    with redis.Redis.from_url(broker) as client:
        client.rpush("gpu", message)
    assert value(settings, "farm_queue_length", queue="gpu", priority="high") == 1
    assert value(settings, "farm_queue_oldest_seconds", queue="gpu", priority="high") == 0


def test_messages_in_hand_are_those_that_are_not_given_up(settings, broker):
    with redis.Redis.from_url(broker) as client:
        client.hset("unacked", mapping={"one": "message", "two": "message"})
    assert value(settings, "farm_unacked_messages") == 2


def test_the_census_is_told(farm, settings):
    registry = farm.context.registry
    registry.workers.heartbeat("gpu here 1")
    for job_id in "ab":
        registry.jobs.add(job_id, JobRequest.parse(GIVEN))
    registry.steps.commit(registry.steps.acquire("a", "embed", lease_s=60, max_attempts=3), {}, EstimateUpdate(100.0))
    registry.steps.acquire("a", "generate-0000", lease_s=15, max_attempts=3)
    told = {
        "farm_broker_up": 1,
        "farm_live_jobs": 2,
        "farm_idle_jobs": 1,
        "farm_runnable_jobs": 2,
        "farm_unheard_jobs": 1,
        "farm_ahead_seconds": 200,
        "farm_predicted_wait_seconds": 200,
    }
    assert {name: value(settings, name) for name in told} == told
    assert value(settings, "farm_workers", queue="gpu") == 1
    assert value(settings, "farm_running_steps", kind="generate") == 1
    assert value(settings, "farm_running_steps", kind="mux") == 0


def test_ended_jobs_are_told_and_every_code_begins_at_nothing(farm, settings):
    farm.submit(GIVEN).cancel(by="a test")
    assert value(settings, "farm_jobs_total", outcome="cancelled", code="E_CANCELLED") == 1
    assert value(settings, "farm_jobs_total", outcome="error", code="E_WORKER_LOST") == 0
    assert value(settings, "farm_jobs_total", outcome="success", code="") == 0


def test_the_broker_is_told(settings, broker):
    assert value(settings, "farm_broker_aof_ok") == 1
    assert value(settings, "farm_broker_memory_bytes") > 100_000
    assert value(settings, "farm_broker_evicted_keys_total") == 0
    with redis.Redis.from_url(broker) as client:
        client.config_set("appendonly", "no")
        assert value(settings, "farm_broker_aof_ok") == 0
        client.config_set("appendonly", "yes")


def test_while_the_broker_is_away_only_that_is_told(tmp_path):
    away = Settings(home=tmp_path, broker_url="redis://127.0.0.1:1/0")
    samples = [line for line in exposition(FarmCollector(away)).splitlines() if not line.startswith("#")]
    assert samples == ["farm_broker_up 0.0"]


def test_every_number_of_the_farm_is_told_even_if_nothing_happens(settings):
    told = {line.split("{")[0].split()[0] for line in exposition(FarmCollector(settings)).splitlines() if line[0] != "#"}
    assert told == {each.name for each in METRICS if each.source == "farm"}


def test_numbers_are_served_where_they_should_be(settings):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = serve(FarmCollector(settings), Address("127.0.0.1", port))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        assert b"farm_broker_up 1.0" in answer.read()
    with pytest.raises(OSError, match="in use"):
        serve(FarmCollector(settings), Address("127.0.0.1", port))
    server.shutdown()
    server.server_close()


def test_a_scrape_asks_the_broker_few_things_however_many_jobs_there_are(farm, settings):
    registry = farm.context.registry
    for number in range(300):
        registry.jobs.add(f"job-{number}", JobRequest.parse(GIVEN))
        registry.steps.claim_dispatch(f"job-{number}", "download", window_s=3600)
    numbers, client = FarmCollector(settings), registry.backend.redis
    exposition(numbers)
    before = client.info("stats")["total_commands_processed"]
    exposition(numbers)
    assert client.info("stats")["total_commands_processed"] - before < 45
