"""Tickets: what goes through the broker, and to whom."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from farm.client.transports.celery import CeleryTransport
from farm.engine.context import Context
from farm.route import FIRST, Step
from farm.errors import FarmUnreachable
from farm.job import JobRequest
from farm.queue.app import TASK_ROUTES, PRIORITIES, make_app
from farm.queue.dispatch import signatures
from farm.registry import open_registry
from farm.settings import Settings
from farm.store import open_store

GIVEN: dict[str, Any] = {
    "prompt": "a woman talks",
    "cond_video": "https://example.org/face.png",
    "cond_audio": {"person1": "https://example.org/voice.wav"},
}


@pytest.fixture
def ctx(broker: str, tmp_path: Path) -> Context:
    ctx = Context(Settings(home=tmp_path, broker_url=broker), open_store("memory://"), open_registry(broker))
    ctx.registry.jobs.add("a", JobRequest.parse(GIVEN))
    return ctx


def messages(broker: str) -> list[dict[str, Any]]:
    """Every message in the broker, whatever its queue and priority."""
    with redis.Redis.from_url(broker) as client:
        lists = sorted(client.scan_iter("*", _type="list"))
        return [json.loads(text) for name in lists for text in client.lrange(name, 0, -1)]


def body(message: dict[str, Any]) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """Arguments, keyword arguments and the rest (chain, chord, ...) of a message."""
    args, kwargs, embedded = json.loads(base64.b64decode(message["body"]))
    return args, kwargs, embedded


def test_a_new_job_is_one_message_with_the_whole_way_in_it(ctx, broker):
    CeleryTransport(ctx).send("a", FIRST)
    (message,) = messages(broker)
    args, kwargs, embedded = body(message)
    rest = list(reversed(embedded["chain"]))
    assert (message["headers"]["task"], message["headers"]["id"]) == ("farm.download", "a-download-a1")
    assert (args, kwargs) == (["a"], {})
    assert [(each["task"], each["args"], each["kwargs"]) for each in rest] == [
        ("farm.embed", ["a"], {}),
        ("farm.generate", ["a", 0], {}),
        ("farm.mux", ["a"], {}),
    ]
    assert [each["options"]["task_id"] for each in rest] == ["a-embed-a1", "a-c0000-a1", "a-mux-a1"]
    assert [each["options"]["queue"] for each in rest] == ["cpu", "gpu", "cpu"]
    assert all(each["immutable"] for each in rest)


def test_a_job_goes_on_from_any_step(ctx, broker):
    CeleryTransport(ctx).send("a", Step("generate", 7))
    (message,) = messages(broker)
    args, _, embedded = body(message)
    assert (message["headers"]["task"], args) == ("farm.generate", ["a", 7])
    assert message["properties"]["delivery_info"]["routing_key"] == "gpu"
    assert [each["task"] for each in embedded["chain"]] == ["farm.mux"]


def test_a_person_reads_the_job_in_a_messages_arguments(ctx, broker):
    CeleryTransport(ctx).send("a", FIRST)
    (message,) = messages(broker)
    rest = reversed(body(message)[2]["chain"])
    assert (message["headers"]["argsrepr"], message["headers"]["kwargsrepr"]) == ("job a", "{}")
    assert [each["options"]["argsrepr"] for each in rest] == ["job a", "job a, chunk 1", "job a"]


def test_a_person_reads_which_chunk_of_how_many_once_that_is_known(ctx, broker):
    lease = ctx.registry.steps.acquire("a", "embed", lease_s=60, max_attempts=3)
    ctx.registry.steps.commit(lease, {"chunks": 12})
    CeleryTransport(ctx).send("a", Step("generate", 2))
    (message,) = messages(broker)
    assert message["headers"]["argsrepr"] == "job a, chunk 3 of 12"


def test_the_last_step_is_a_message_of_its_own(ctx, broker):
    CeleryTransport(ctx).send("a", Step("mux"))
    (message,) = messages(broker)
    assert message["headers"]["task"] == "farm.mux"
    assert not body(message)[2]["chain"]


def test_messages_are_json_and_small(ctx, broker):
    CeleryTransport(ctx).send("a", FIRST)
    (message,) = messages(broker)
    assert message["content-type"] == "application/json"
    assert "a woman talks" not in base64.b64decode(message["body"]).decode()
    assert len(json.dumps(message)) < 5000


@pytest.mark.parametrize(("priority", "number"), [("high", 0), ("normal", 3), ("low", 6)])
def test_every_ticket_has_its_jobs_priority(ctx, broker, priority, number):
    ctx.registry.jobs.add("b", JobRequest.parse({**GIVEN, "priority": priority}))
    CeleryTransport(ctx).send("b", FIRST)
    (message,) = messages(broker)
    rest = body(message)[2]["chain"]
    assert message["properties"]["priority"] == number
    assert [each["options"]["priority"] for each in rest] == [number] * 3


def test_urgent_jobs_are_handed_out_first(ctx, broker):
    for priority in ("low", "normal", "high"):
        ctx.registry.jobs.add(priority, JobRequest.parse({**GIVEN, "priority": priority}))
        CeleryTransport(ctx).send(priority, FIRST)
    with make_app(ctx.settings).connection_for_read() as connection:
        queue = connection.SimpleQueue("cpu")
        assert [queue.get(timeout=2).payload[0] for _ in range(3)] == [["high"], ["normal"], ["low"]]
        queue.close()


def test_a_message_that_is_sent_again_has_a_new_id(ctx):
    ctx.registry.steps.claim_dispatch("a", "mux", window_s=0)
    ctx.registry.steps.claim_dispatch("a", "mux", window_s=0)
    app = make_app(ctx.settings)
    (again,) = signatures(app, ctx, "a", [Step("mux")])
    assert again.options["task_id"] == "a-mux-a2"


def test_the_last_message_of_a_job_sends_the_call_of_its_webhook_behind_all_other_work(broker, tmp_path):
    # Given a job whose video is made
    ctx = Context(Settings(home=tmp_path, broker_url=broker), open_store("memory://"), open_registry(broker))
    urgent = {**GIVEN, "webhook": "https://example.org/done", "priority": "high"}
    ctx.registry.jobs.add("a", JobRequest.parse(urgent))
    for step_id in ("embed", "mux"):
        lease = ctx.registry.steps.acquire("a", step_id, lease_s=60, max_attempts=3)
        ctx.registry.steps.commit(lease, {"chunks": 0, "result": {"job_id": "a", "status": "success"}})
    # When a worker gets the last message
    program = "from tasks.mux import mux; mux.apply(args=['a'], throw=True)"
    environ = {**os.environ, "FARM_BROKER_URL": broker, "FARM_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], env=environ, check=True)
    # Then the call is on its way, and nobody sends it again
    (message,) = messages(broker)
    assert (message["headers"]["task"], body(message)[0]) == ("farm.notify", ["a"])
    assert message["properties"]["priority"] == PRIORITIES["low"]
    assert ctx.registry.jobs.orphaned() == []


def test_no_broker_is_a_sentence(tmp_path):
    settings = Settings(home=tmp_path, broker_url="redis://127.0.0.1:1/0")
    ctx = Context(settings, open_store("memory://"), open_registry("memory://"))
    ctx.registry.jobs.add("a", JobRequest.parse(GIVEN))
    transport = CeleryTransport(ctx)
    transport.app.conf.task_publish_retry_policy = {"max_retries": 0}
    with pytest.raises(FarmUnreachable, match="the broker did not take job a"):
        transport.send("a", FIRST)


def test_every_task_has_its_queue():
    conf = make_app(Settings(broker_url="redis://host/0")).conf
    assert conf.task_routes == {desk.task: {"queue": desk.queue} for desk in TASK_ROUTES.values()}
    assert {queue.name for queue in conf.task_queues} == {"cpu", "gpu"}
    assert {queue.routing_key for queue in conf.task_queues} == {"cpu", "gpu"}


def test_nothing_but_json_is_sent_or_taken():
    conf = make_app(Settings(broker_url="redis://host/0")).conf
    assert (conf.task_serializer, conf.accept_content) == ("json", ["json"])


def test_a_message_stays_hidden_for_longer_than_its_task_may_take():
    conf = make_app(Settings(broker_url="redis://host/0", step_timeout_s=100)).conf
    assert conf.task_soft_time_limit < conf.task_time_limit < conf.broker_transport_options["visibility_timeout"]


def test_priorities_are_those_of_the_contract():
    assert list(PRIORITIES) == ["high", "normal", "low"]
    assert JobRequest.model_fields["priority"].default in PRIORITIES


def test_the_task_modules_make_exactly_the_tables_tasks():
    program = (
        "from tasks import app; app.loader.import_default_modules(); "
        "print(*sorted(f'{task.__module__} {name}' for name, task in app.tasks.items() if name.startswith('farm.')))"
    )
    environ = {**os.environ, "FARM_BROKER_URL": "redis://127.0.0.1:1/0"}
    made = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert made.stdout.split() == " ".join(sorted(f"{desk.module} {desk.task}" for desk in TASK_ROUTES.values())).split()
