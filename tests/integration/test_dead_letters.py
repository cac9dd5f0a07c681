"""Messages that no step can be read from, before a cpu worker with one child, and threads."""

from __future__ import annotations

import base64
import json
import uuid
from pathlib import Path
from typing import Any

import redis

from farm import Farm
from farm.queue.brokers.redis import UNACKED
from farm.queue.dead_letters import DEAD_LETTERS
from farm.queue.dispatch import FORMAT_HEADER
from farm.registry.formats import FORMAT
from tests.support.processes import children_of
from tests.support.small_farm import small_farm
from tests.support.waiting import wait_for, wait_for_stage

NO_ARGUMENTS: list[Any] = [[], {}, {}]
A_JOB: list[Any] = [["a"], {}, {}]


def message(body: Any, /, *, task: str = "farm.download", **changes: Any) -> str:
    """A message as kombu writes it to Redis; `changes` replace parts of it."""
    encoded = base64.b64encode(json.dumps(body).encode()).decode()
    envelope = {
        "body": encoded,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers_of(task),
        "properties": {
            "delivery_info": {"exchange": "cpu", "routing_key": "cpu"},
            "delivery_tag": str(uuid.uuid4()),
            "body_encoding": "base64",
            "priority": 0,
        },
    }
    return json.dumps(envelope | changes)


def headers_of(task: str, **more: Any) -> dict[str, Any]:
    identity = {"task": task, "id": str(uuid.uuid4()), "lang": "py", FORMAT_HEADER: FORMAT}
    return identity | more


def with_header(**header: Any) -> str:
    """The message of a step, with a header as no step has it."""
    return message(A_JOB, headers=headers_of("farm.download", **header))


UNREADABLE = [
    message(NO_ARGUMENTS),
    message(NO_ARGUMENTS, task="farm.generate"),
    message([[7], {}, {}]),
    message([["a" * 101], {}, {}]),
    message([["a"], {"job_id": "b"}, {}]),
    message([["a", "x"], {}, {}], task="farm.generate"),
    message(None),
    message("text"),
    message([]),
    message(NO_ARGUMENTS, body=None),
    message(NO_ARGUMENTS, body="bm8ganNvbg=="),
    message(NO_ARGUMENTS, headers={}),
    message([["a"], {}, {}], headers={"task": "farm.download", FORMAT_HEADER: FORMAT}),
    message([["ls"], {}, {}], task="os.system"),
    with_header(timelimit="x"),
    with_header(timelimit=["a", -1]),
    with_header(eta="yesterday"),
    with_header(eta="9999-01-01T00:00:00"),
    with_header(expires="never"),
    with_header(id=["a"]),
    "no JSON",
    "[" * 100_000,
    "[]",
    "{}",
]


def test_they_become_dead_letters_and_hold_up_no_step(
    tmp_path: Path, portrait: Path, voice: Path
) -> None:
    with small_farm(tmp_path) as running:
        client = redis.Redis.from_url(running.settings.broker_address)
        worker = running.children["cpu"]
        processes = children_of(worker.pid)
        # When each of them comes twice, and a job after them
        for queue in ("cpu", "downloads"):
            client.lpush(f"farm:{queue}", *UNREADABLE, *UNREADABLE)
        farm = Farm(settings=running.settings)
        fields = {"prompt": "x", "cond_video": str(portrait), "cond_audio": {"person1": str(voice)}}
        job = farm.submit(fields)
        # Then the job is run by the same worker and its same processes
        wait_for_stage(job, "downloads_ok")
        assert worker.poll() is None
        assert children_of(worker.pid) == processes
        # And each of them is a dead letter, and not delivered again
        wait_for(lambda: client.llen(f"farm:{DEAD_LETTERS}") == 4 * len(UNREADABLE))
        job.cancel(by="a test")
        wait_for(lambda: client.hlen(f"farm:{UNACKED}") == 0)
        letters = [json.loads(letter) for letter in client.lrange(f"farm:{DEAD_LETTERS}", 0, -1)]
        assert {letter.get("headers", {}).get("task") for letter in letters} == {
            "farm.download",
            "farm.generate",
            "os.system",
            None,
        }
