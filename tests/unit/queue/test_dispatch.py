"""Messages: what goes through the broker, to which queue, and what remains of a chain."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis

from farm.client.transports.celery import CeleryTransport
from farm.engine.context import Context
from farm.errors import FarmUnreachable
from farm.job import PRIORITIES, JobRequest
from farm.local.worker import celery_command
from farm.queue.app import TASK_ROUTES, make_app
from farm.queue.brokers.redis import MESSAGE_PRIORITIES
from farm.queue.dispatch import FORMAT_HEADER, remaining_chain, signatures
from farm.registry import open_registry
from farm.registry.formats import FORMAT
from farm.registry.workers import worker_name
from farm.route import DOWNLOAD, EMBED, MUX, NOTIFY, Step
from farm.settings import Settings
from farm.store import open_store
from tests.support.commands import run_python
from tests.support.jobs import REQUEST, job_request
from tests.support.outputs import embed_output
from tests.support.steps import complete, submit_remote


@pytest.fixture
def ctx(broker: str, tmp_path: Path) -> Context:
    """The context of the job `a`, whose messages no worker receives."""
    settings = Settings(home=tmp_path, broker_url=broker)
    ctx = Context(settings, open_store("memory://"), open_registry(broker))
    ctx.registry.entries.add("a", REQUEST)
    return ctx


def messages(broker: str) -> list[dict[str, Any]]:
    """Every message in the broker, whatever its queue and priority."""
    with redis.Redis.from_url(broker) as client:
        queues = sorted(client.scan_iter("*", _type="list"))
        return [json.loads(text) for queue in queues for text in client.lrange(queue, 0, -1)]


def body(message: dict[str, Any]) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """Arguments, keyword arguments and the rest (chain, chord, ...) of a message."""
    arguments, keywords, embedded = json.loads(base64.b64decode(message["body"]))
    return arguments, keywords, embedded


def chain_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages behind a message, in the order of execution."""
    return list(reversed(body(message)[2]["chain"]))


# A chain


def test_a_new_job_is_one_message_with_the_whole_chain(ctx, broker):
    CeleryTransport(ctx).dispatch("a", DOWNLOAD)
    (message,) = messages(broker)
    arguments, keywords, _ = body(message)
    rest = chain_of(message)
    headers = message["headers"]
    assert (headers["task"], headers["id"]) == ("farm.download", "a-download-a1")
    assert (arguments, keywords) == (["a"], {})
    assert [(each["task"], each["args"], each["kwargs"]) for each in rest] == [
        ("farm.embed", ["a"], {}),
        ("farm.generate", ["a", 0], {}),
        ("farm.mux", ["a"], {}),
    ]
    task_ids = [each["options"]["task_id"] for each in rest]
    assert task_ids == ["a-embed-a1", "a-c0000-a1", "a-mux-a1"]
    assert [each["options"]["queue"] for each in rest] == ["cpu", "gpu", "cpu"]
    assert all(each["immutable"] for each in rest)


def test_a_job_can_be_dispatched_from_any_step(ctx, broker):
    CeleryTransport(ctx).dispatch("a", Step("generate", 7))
    (message,) = messages(broker)
    assert message["headers"]["task"] == "farm.generate"
    assert body(message)[0] == ["a", 7]
    assert message["properties"]["delivery_info"]["routing_key"] == "gpu"
    assert [each["task"] for each in chain_of(message)] == ["farm.mux"]


@pytest.mark.parametrize("step", [MUX, NOTIFY], ids=lambda step: step.id)
def test_nothing_is_chained_behind_the_last_step(ctx, broker, step):
    CeleryTransport(ctx).dispatch("a", step)
    (message,) = messages(broker)
    assert message["headers"]["task"] == f"farm.{step.kind}"
    assert not body(message)[2]["chain"]


def test_messages_are_described_by_job_and_chunk(ctx, broker):
    CeleryTransport(ctx).dispatch("a", DOWNLOAD)
    (message,) = messages(broker)
    headers = message["headers"]
    assert (headers["argsrepr"], headers["kwargsrepr"]) == ("job a", "{}")
    descriptions = [each["options"]["argsrepr"] for each in chain_of(message)]
    assert descriptions == ["job a", "job a, chunk 1", "job a"]


def test_messages_are_described_by_chunk_of_how_many_once_that_is_known(ctx, broker):
    complete(ctx.registry, "embed", embed_output(chunks=12))
    CeleryTransport(ctx).dispatch("a", Step("generate", 2))
    (message,) = messages(broker)
    assert message["headers"]["argsrepr"] == "job a, chunk 3 of 12"


def test_messages_are_json_and_small(ctx, broker):
    CeleryTransport(ctx).dispatch("a", DOWNLOAD)
    (message,) = messages(broker)
    assert message["content-type"] == "application/json"
    assert REQUEST.prompt not in base64.b64decode(message["body"]).decode()
    assert len(json.dumps(message)) < 5000


def test_every_message_of_a_chain_has_the_version_of_its_format(ctx, broker):
    CeleryTransport(ctx).dispatch("a", DOWNLOAD)
    (message,) = messages(broker)
    assert message["headers"][FORMAT_HEADER] == FORMAT
    headers = [each["options"]["headers"] for each in chain_of(message)]
    assert headers == [{FORMAT_HEADER: FORMAT}] * 3


def test_a_message_that_is_sent_again_has_a_new_id(ctx):
    for _ in range(2):
        ctx.registry.steps.claim_dispatch("a", "mux")
        ctx.registry.steps.mark_lost("a", "mux")
    (again,) = signatures(make_app(ctx.settings), ctx, "a", [MUX])
    assert again.options["task_id"] == "a-mux-a2"


# Priorities


@pytest.mark.parametrize(("priority", "number"), [("high", 0), ("normal", 3), ("low", 6)])
def test_every_message_has_the_priority_of_its_job(ctx, broker, priority, number):
    ctx.registry.entries.add("b", job_request(priority=priority))
    CeleryTransport(ctx).dispatch("b", DOWNLOAD)
    (message,) = messages(broker)
    assert message["properties"]["priority"] == number
    assert [each["options"]["priority"] for each in chain_of(message)] == [number] * 3


def test_only_a_job_with_urls_is_downloaded_by_threads(ctx):
    uploaded = {"cond_video": "store://uploads/a", "cond_audio": {"person1": "store://uploads/b"}}
    ctx.registry.entries.add("b", job_request(**uploaded))
    app = make_app(ctx.settings)
    queues = [
        [message.options["queue"] for message in signatures(app, ctx, job_id, [DOWNLOAD, EMBED])]
        for job_id in ("a", "b")
    ]
    assert queues == [["downloads", "cpu"], ["cpu", "cpu"]]


def test_jobs_of_a_higher_priority_are_delivered_first(ctx):
    for priority in ("low", "normal", "high"):
        ctx.registry.entries.add(priority, job_request(priority=priority))
        CeleryTransport(ctx).dispatch(priority, DOWNLOAD)
    with make_app(ctx.settings).connection_for_read() as connection:
        queue = connection.SimpleQueue("downloads")
        delivered = [queue.get(timeout=60).payload[0] for _ in range(3)]
        queue.close()
    assert delivered == [["high"], ["normal"], ["low"]]


def test_a_step_that_runs_after_the_end_is_delivered_last(ctx):
    ctx.registry.entries.add("b", job_request(priority="high"))
    (message,) = signatures(make_app(ctx.settings), ctx, "b", [NOTIFY])
    assert message.options["priority"] == MESSAGE_PRIORITIES["low"]


def test_priorities_are_those_of_the_contract():
    assert list(MESSAGE_PRIORITIES) == list(PRIORITIES) == ["high", "normal", "low"]
    assert JobRequest.model_fields["priority"].default in MESSAGE_PRIORITIES


# What remains of a chain. Messages are strings here; those that were signed anew end with '.


def remaining(rest: list[str], step: Step, after: Step | None) -> list[str]:
    """The remaining chain, like `rest` in the order of execution."""
    in_celerys_order = rest[::-1]
    kept = remaining_chain(in_celerys_order, step, after, lambda step: f"{step.id}'")
    return kept[::-1]


def test_behind_download_the_chain_stays_as_it_is():
    rest = ["embed", "generate-0000", "mux"]
    assert remaining(rest, DOWNLOAD, EMBED) == ["embed", "generate-0000", "mux"]


def test_behind_embed_the_first_chunk_is_signed_anew():
    rest = ["generate-0000", "mux"]
    assert remaining(rest, EMBED, Step("generate", 0)) == ["generate-0000'", "mux"]


def test_behind_embed_only_the_first_chunk_of_a_longer_chain_is_signed_anew():
    rest = ["generate-0000", "caption", "mux"]
    assert remaining(rest, EMBED, Step("generate", 0)) == ["generate-0000'", "caption", "mux"]


def test_behind_embed_the_first_chunk_is_signed_even_if_nothing_was_chained():
    assert remaining([], EMBED, Step("generate", 0)) == ["generate-0000'"]


def test_behind_a_chunk_the_next_one_is_put_in_front():
    after = Step("generate", 1)
    assert remaining(["mux"], Step("generate", 0), after) == ["generate-0001'", "mux"]


def test_behind_a_chunk_the_next_one_is_put_in_front_of_a_longer_chain():
    rest = ["caption", "mux"]
    after = Step("generate", 8)
    assert remaining(rest, Step("generate", 7), after) == ["generate-0008'", "caption", "mux"]


def test_behind_the_last_chunk_the_chain_stays_as_it_is():
    assert remaining(["mux"], Step("generate", 1), MUX) == ["mux"]


def test_behind_mux_the_webhook_is_appended():
    assert remaining([], MUX, NOTIFY) == ["notify'"]


@pytest.mark.parametrize(
    "step", [DOWNLOAD, EMBED, Step("generate", 0), MUX, NOTIFY], ids=lambda step: step.id
)
@pytest.mark.parametrize("rest", [[], ["mux"], ["embed", "generate-0000", "mux"]], ids=len)
def test_behind_a_message_that_may_send_nothing_nothing_remains(step, rest):
    assert remaining(rest, step, None) == []


def test_the_given_chain_is_not_changed():
    rest = ["mux", "generate-0000"]
    kept = remaining_chain(rest, EMBED, Step("generate", 0), lambda step: step.id)
    assert rest == ["mux", "generate-0000"]
    assert kept is not rest
    assert remaining_chain(rest, DOWNLOAD, EMBED, lambda step: step.id) is not rest


def test_the_last_message_of_a_job_sends_its_webhook_behind_all_other_work(ctx, broker, tmp_path):
    # Given an urgent job whose chunks are complete
    urgent = job_request(webhook="https://example.org/done", priority="high")
    ctx.registry.entries.add("b", urgent)
    complete(ctx.registry, "embed", job_id="b")
    ctx.registry.steps.claim_dispatch("a", DOWNLOAD.id)
    # When a worker gets the last message
    program = """
        from dataclasses import replace
        from farm.tasks import base
        from farm.tasks.steps import TASKS
        from tests.support.outputs import mux_output
        base.hooks = replace(base.hooks, step_function=lambda _: lambda _: mux_output())
        TASKS["mux"].apply(args=["b"], throw=True)
    """
    run_python(program, FARM_BROKER_URL=broker, FARM_HOME=str(tmp_path))
    # Then the call is queued, and no one else sends it
    (message,) = messages(broker)
    assert (message["headers"]["task"], body(message)[0]) == ("farm.notify", ["b"])
    assert message["properties"]["priority"] == MESSAGE_PRIORITIES["low"]
    assert ctx.registry.jobs.orphaned() == []


def test_the_end_of_a_job_with_an_error_of_the_farm_is_one_line_in_the_log(ctx, broker, tmp_path):
    ctx.registry.entries.add("b", job_request(cond_video="store://uploads/none"))
    program = (
        "from farm import logs; from farm.tasks.steps import TASKS; logs.configure(); "
        "print(TASKS['download'].apply(args=['b']).state)"
    )
    done = run_python(program, FARM_BROKER_URL=broker, FARM_HOME=str(tmp_path))
    assert done.stdout == "FAILURE\n"
    (line,) = [
        json.loads(line)
        for line in done.stderr.splitlines()
        if "traceback" in line or "step_failed" in line
    ]
    assert (line["event"], line["details"]["code"]) == ("step_failed", "E_DOWNLOAD_FAILED")


# The application


def test_the_error_for_a_broker_that_is_down_names_the_job(tmp_path):
    settings = Settings(home=tmp_path, broker_url="redis://127.0.0.1:1/0")
    ctx = Context(settings, open_store("memory://"), open_registry("memory://"))
    ctx.registry.entries.add("a", REQUEST)
    transport = CeleryTransport(ctx)
    transport.app.conf.task_publish_retry_policy = {"max_retries": 0}
    with pytest.raises(FarmUnreachable, match="the broker did not accept job a"):
        transport.dispatch("a", DOWNLOAD)


def test_every_task_has_its_queue():
    conf = make_app(Settings(broker_url="redis://host/0")).conf
    assert conf.task_routes == {task: {"queue": queue} for task, queue in TASK_ROUTES.items()}
    names = {"cpu", "gpu", "downloads", "gpu-local", "bridge"}
    assert {queue.name for queue in conf.task_queues} == names
    assert {queue.routing_key for queue in conf.task_queues} == names
    assert TASK_ROUTES["farm.generate"] == "gpu"
    assert TASK_ROUTES["farm.mux"] == "cpu"


def test_only_json_is_sent_or_accepted():
    conf = make_app(Settings(broker_url="redis://host/0")).conf
    assert (conf.task_serializer, conf.accept_content) == ("json", ["json"])


@pytest.mark.parametrize("wanted", [False, True])
def test_workers_obey_remote_control_only_if_the_operator_wants_it(wanted):
    conf = make_app(Settings(broker_url="redis://host/0", remote_control=wanted)).conf
    assert conf.worker_enable_remote_control is wanted
    assert Settings().remote_control is False


def test_a_message_is_hidden_for_longer_than_its_task_may_take():
    conf = make_app(Settings(broker_url="redis://host/0", step_timeout_s=100)).conf
    visibility_timeout = conf.broker_transport_options["visibility_timeout"]
    assert conf.task_soft_time_limit < conf.task_time_limit < visibility_timeout


def test_the_task_modules_define_exactly_the_tasks_that_have_routes():
    program = (
        "from farm.tasks.celery import app; app.loader.import_default_modules(); "
        "print(*(name for name in app.tasks if name.startswith('farm.')))"
    )
    done = run_python(program, FARM_BROKER_URL="redis://127.0.0.1:1/0")
    assert sorted(done.stdout.split()) == sorted(TASK_ROUTES)


def test_celery_finds_the_application_in_the_package():
    program = "from celery.app.utils import find_app; print(find_app('farm.tasks').main)"
    done = run_python(program, FARM_BROKER_URL="redis://127.0.0.1:1/0")
    assert done.stdout == "infinitetalk-farm\n"


def test_the_application_imports_nothing_from_the_working_folder(tmp_path):
    """Another project's files there, which Celery's own command line would import."""
    for name in ("celery", "farm", "hiredis", "pydantic", "redis", "tasks"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(__file__)")
    environ = {**os.environ, "FARM_BROKER_URL": "redis://127.0.0.1:1/0"}
    command = [*celery_command(), "report"]
    ended = subprocess.run(
        command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


# Chunks that may not leave the farm, and those that have left it


def queue_of_chunk(ctx: Context, job_id: str = "a") -> str:
    """Where the message goes that is sent next for the first chunk of a job."""
    step = Step("generate", 0)
    ctx.registry.steps.claim_dispatch(job_id, step.id)
    (message,) = signatures(make_app(ctx.settings), ctx, job_id, [step])
    return message.options["queue"]


def test_a_job_may_be_kept_on_the_farms_own_gpus(ctx):
    ctx.registry.entries.add("b", job_request(placement="local"))
    assert (queue_of_chunk(ctx), queue_of_chunk(ctx, "b")) == ("gpu", "gpu-local")


def detach_first_chunk(ctx: Context) -> None:
    ctx.registry.steps.claim_dispatch("a", "generate-0000")
    ctx.registry.steps.detach(submit_remote(ctx.registry))


def test_a_chunk_that_runs_outside_goes_to_a_bridge(ctx):
    ctx.registry.workers.heartbeat(worker_name("bridge", "host", 1))
    detach_first_chunk(ctx)
    assert queue_of_chunk(ctx) == "bridge"


def test_a_chunk_that_runs_outside_goes_to_any_worker_if_no_bridge_lives(ctx):
    detach_first_chunk(ctx)
    assert queue_of_chunk(ctx) == "gpu"
