"""The farm's metrics, from a registry and a broker without workers."""

from __future__ import annotations

import json
import socket
import urllib.request
from pathlib import Path

import pytest
import redis
from prometheus_client import CollectorRegistry

from farm.client import Farm
from farm.job import PRIORITIES
from farm.metrics import METRICS
from farm.monitoring.exporter import FarmCollector, exposition, serve
from farm.net.address import ListenAddress
from farm.queue.app import make_app
from farm.registry.keys import step_key
from farm.registry.outputs import EmbedOutput
from farm.registry.steps import EstimateUpdate
from farm.settings import Settings
from tests.support.formats import text_of
from tests.support.jobs import resolved
from tests.support.queries import is_of_two_servers
from tests.support.rabbitmq import RabbitMQ
from tests.support.steps import commit

GIVEN = {
    "prompt": "x",
    "cond_video": "https://example.org/face.png",
    "cond_audio": {"person1": "https://example.org/voice.wav"},
}


EMBEDDED = EmbedOutput(
    embedding_prefixes=(),
    rows=1,
    audio_key="",
    aac_keys=(),
    frames=1,
    chunks=1,
    cuts=(),
    source_keys=(),
    source_scale=1.0,
    weights="",
    warnings=(),
)


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
    """Changes a step's record as if its message had been dispatched that long ago."""
    backend = farm.context.registry.backend
    key = step_key(job_id, step_id)
    (old,) = backend.get_all([key])
    text = json.loads(old)
    text["record"]["dispatched_at"] -= seconds
    backend.compare_and_set(key, old, json.dumps(text))


@pytest.mark.parametrize("priority", PRIORITIES)
def test_messages_are_counted_by_queue_and_priority(farm, settings, priority):
    for _ in range(3):
        farm.submit({**GIVEN, "priority": priority})
    lengths = {
        each: value(settings, "farm_queue_length", queue="downloads", priority=each)
        for each in PRIORITIES
    }
    assert lengths == {**dict.fromkeys(PRIORITIES, 0), priority: 3}
    assert value(settings, "farm_queue_length", queue="gpu", priority=priority) == 0


@pytest.mark.parametrize("priority", PRIORITIES)
def test_the_oldest_message_waits_since_its_dispatch(farm, settings, priority):
    jobs = [farm.submit({**GIVEN, "priority": priority}) for _ in range(2)]
    age(farm, jobs[0].id, "download", 500)
    waited = {
        each: value(settings, "farm_queue_oldest_seconds", queue="downloads", priority=each)
        for each in PRIORITIES
    }
    assert 500 <= waited.pop(priority) < 530
    assert set(waited.values()) == {0}


def test_a_chunks_message_waits_since_its_own_dispatch(farm, settings):
    ctx = farm.context
    ctx.registry.entries.add("a", resolved(GIVEN))
    ctx.registry.steps.claim_dispatch("a", "generate-0007")
    age(farm, "a", "generate-0007", 90)
    make_app(settings).signature(
        "farm.generate", args=("a", 7), queue="gpu", priority=3, immutable=True
    ).apply_async()
    assert 90 <= value(settings, "farm_queue_oldest_seconds", queue="gpu", priority="normal") < 120


def test_messages_of_no_step_do_not_hide_the_oldest_step(farm, settings):
    app = make_app(settings)
    app.signature("another.task", queue="downloads", priority=3).apply_async()
    job = farm.submit(GIVEN)
    age(farm, job.id, "download", 500)
    assert value(settings, "farm_queue_oldest_seconds", queue="downloads", priority="normal") >= 500


def test_a_record_of_another_version_hides_no_metric(farm, settings):
    job = farm.submit(GIVEN)
    backend = farm.context.registry.backend
    farm.context.registry.steps.acquire(job.id, "download", lease_s=15, max_attempts=3)
    key = step_key(job.id, "download")
    (old,) = backend.get_all([key])
    backend.compare_and_set(key, old, text_of({}, format=2))
    assert value(settings, "farm_queue_length", queue="downloads", priority="normal") == 1
    assert value(settings, "farm_queue_oldest_seconds", queue="cpu", priority="normal") == 0
    assert value(settings, "farm_running_steps", step="download") == 0


def test_messages_of_no_step_alone_have_no_age(settings):
    make_app(settings).signature("another.task", queue="cpu", priority=3).apply_async()
    assert value(settings, "farm_queue_length", queue="cpu", priority="normal") == 1
    assert value(settings, "farm_queue_oldest_seconds", queue="cpu", priority="normal") == 0


@pytest.mark.parametrize(
    "message", ["", "x", "[]", "{}", '{"headers": {"task": "farm.mux"}, "body": "bm8="}']
)
def test_a_foreign_message_does_not_hide_a_metric(settings, broker, message):
    with redis.Redis.from_url(broker) as client:
        client.rpush("farm:gpu", message)
    assert value(settings, "farm_queue_length", queue="gpu", priority="high") == 1
    assert value(settings, "farm_queue_oldest_seconds", queue="gpu", priority="high") == 0


def test_unacknowledged_messages_are_counted(settings, broker):
    with redis.Redis.from_url(broker) as client:
        client.hset("farm:unacked", mapping={"one": "message", "two": "message"})
    assert value(settings, "farm_unacked_messages") == 2


def test_the_statistics_are_exported(farm, settings):
    registry = farm.context.registry
    registry.workers.heartbeat("gpu here 1")
    for job_id in "ab":
        registry.entries.add(job_id, resolved(GIVEN))
    lease = registry.steps.acquire("a", "embed", lease_s=60, max_attempts=3)
    commit(registry, lease, EMBEDDED, estimate=EstimateUpdate(100.0))
    registry.steps.acquire("a", "generate-0000", lease_s=15, max_attempts=3)
    expected = {
        "farm_broker_up": 1,
        "farm_live_jobs": 2,
        "farm_orphaned_jobs": 1,
        "farm_runnable_jobs": 2,
        "farm_unknown_length_jobs": 1,
        "farm_estimated_gpu_seconds": 200,
        "farm_estimated_wait_seconds": 200,
    }
    assert {name: value(settings, name) for name in expected} == expected
    assert value(settings, "farm_workers", queue="gpu") == 1
    assert value(settings, "farm_running_steps", step="generate") == 1
    assert value(settings, "farm_running_steps", step="mux") == 0


def test_ended_jobs_are_counted_and_every_code_starts_at_0(farm, settings):
    farm.submit(GIVEN).cancel(by="a test")
    assert value(settings, "farm_jobs_total", outcome="cancelled", code="E_CANCELLED") == 1
    assert value(settings, "farm_jobs_total", outcome="error", code="E_WORKER_LOST") == 0
    assert value(settings, "farm_jobs_total", outcome="success", code="") == 0


def test_the_brokers_state_is_exported(settings, broker):
    assert value(settings, "farm_broker_aof_ok") == 1
    assert value(settings, "farm_broker_memory_bytes") > 100_000
    assert value(settings, "farm_broker_evicted_keys_total") == 0
    with redis.Redis.from_url(broker) as client:
        client.config_set("appendonly", "no")
        assert value(settings, "farm_broker_aof_ok") == 0
        client.config_set("appendonly", "yes")


def test_only_broker_up_is_exported_while_the_broker_is_down(tmp_path):
    unreachable = Settings(home=tmp_path, broker_url="redis://127.0.0.1:1/0")
    samples = [
        line
        for line in exposition(FarmCollector(unreachable)).splitlines()
        if not line.startswith("#")
    ]
    assert samples == ["farm_broker_up 0.0"]


def test_every_metric_of_redis_is_exported_on_an_idle_farm(settings):
    exported = {
        line.split("{")[0].split()[0]
        for line in exposition(FarmCollector(settings)).splitlines()
        if line[0] != "#"
    }
    names = {each.name for each in METRICS if each.source == "exporter"}
    assert exported == {name for name in names if not is_of_two_servers(name)}


# With RabbitMQ as the broker


@pytest.fixture
def apart(settings: Settings, vhost: str, rabbitmq: RabbitMQ) -> Settings:
    """A farm whose broker is RabbitMQ, and whose registry is a Redis."""
    changes = {"broker_url": vhost, "registry_url": settings.broker_url}
    return settings.model_copy(update={**changes, "broker_api": rabbitmq.api})


def test_what_rabbitmq_cannot_tell_is_absent_and_the_rest_is_exported(apart):
    Farm(settings=apart).submit(GIVEN)
    assert value(apart, "farm_queue_length", queue="downloads", priority="") == 1
    assert value(apart, "farm_queue_length", queue="gpu", priority="") == 0
    assert value(apart, "farm_queue_oldest_seconds", queue="downloads", priority="normal") >= 0
    for absent in ("farm_broker_aof_ok", "farm_broker_evicted_keys_total"):
        assert value(apart, absent) is None
    assert value(apart, "farm_broker_alarm", resource="memory") == 0
    assert value(apart, "farm_live_jobs") == 1
    assert value(apart, "farm_dead_letters") == 0
    assert value(apart, "farm_registry_aof_ok") == 1
    assert value(apart, "farm_registry_memory_bytes") > 100_000
    assert value(apart, "farm_registry_evicted_keys_total") == 0


def test_every_metric_of_two_servers_is_exported(apart):
    exported = {
        line.split("{")[0].split()[0] for line in exposition(FarmCollector(apart)).splitlines()
    }
    assert {each.name for each in METRICS if is_of_two_servers(each.name)} <= exported


def test_without_its_api_alarms_and_messages_in_hand_are_absent(apart):
    alone = apart.model_copy(update={"broker_api": None})
    assert value(alone, "farm_broker_up") == 1
    assert value(alone, "farm_unacked_messages") is None
    assert value(alone, "farm_broker_memory_bytes") is None
    assert value(alone, "farm_broker_alarm", resource="disk") is None


@pytest.mark.parametrize(
    ("field", "url", "up"),
    [
        ("broker_url", "amqp://x@127.0.0.1:1/x", (0, 1)),
        ("registry_url", "redis://127.0.0.1:1", (1, 0)),
    ],
)
def test_broker_and_registry_are_up_or_down_each_on_its_own(apart, field, url, up):
    half = apart.model_copy(update={field: url})
    assert (value(half, "farm_broker_up"), value(half, "farm_registry_up")) == up
    assert value(half, "farm_live_jobs") == (0 if up[1] else None)


def test_metrics_are_served_at_their_address(settings):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = serve(FarmCollector(settings), ListenAddress("127.0.0.1", port))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        assert b"farm_broker_up 1.0" in answer.read()
    with pytest.raises(OSError, match="in use"):
        serve(FarmCollector(settings), ListenAddress("127.0.0.1", port))
    server.shutdown()
    server.server_close()


def test_a_scrape_sends_few_commands_for_any_number_of_jobs(farm, settings):
    registry = farm.context.registry
    for number in range(300):
        registry.entries.add(f"job-{number}", resolved(GIVEN))
        registry.steps.claim_dispatch(f"job-{number}", "download")
    collector = FarmCollector(settings)
    client = registry.backend.redis
    exposition(collector)
    before = client.info("stats")["total_commands_processed"]
    exposition(collector)
    assert client.info("stats")["total_commands_processed"] - before < 45
