"""Workers that meet messages and records of another version: the jobs end, the workers go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from farm import Farm
from farm.queue.dead_letters import require_redis
from farm.queue.dispatch import FORMAT_HEADER
from farm.registry.keys import job_key, request_key
from tests.integration.test_dead_letters import message
from tests.support.formats import text_of
from tests.support.jobs import REQUEST
from tests.support.processes import children_of
from tests.support.small_farm import small_farm
from tests.support.waiting import wait_for


def test_jobs_of_another_version_end_by_name_and_no_worker_is_held_up(
    tmp_path: Path, portrait: Path, voice: Path
) -> None:
    with small_farm(tmp_path) as running:
        farm = Farm(settings=running.settings)
        registry = farm.context.registry
        broker = require_redis(registry)
        worker = running.children["cpu"]
        processes = children_of(worker.pid)
        # Given what other versions have written
        fields = REQUEST.model_dump(mode="json", exclude_defaults=True)
        for job_id in ("newer-field", "newer-request", "newer-status", "newer-message"):
            registry.entries.add(job_id, REQUEST)

        def write(key: str, record: dict[str, Any], **format: int) -> None:
            broker.redis.set(broker.key(key), text_of(record, **format))

        write(request_key("newer-field"), {**fields, "newer": True})
        write(request_key("newer-request"), {"text": "say hello"}, format=2)
        write(job_key("newer-status"), {"state": "queued"}, format=2)
        headers = {"task": "farm.speak", "id": "newer", FORMAT_HEADER: 2}
        letter = message([["newer-message", {"by": 2}], {}, {}], headers=headers)
        registry.steps.claim_dispatch("newer-message", "download")
        broker.redis.lpush(broker.key("cpu"), letter)
        # When the workers come to it
        jobs = [
            wait_for(lambda job_id=job_id: ended(farm, job_id))
            for job_id in ("newer-field", "newer-request", "newer-status", "newer-message")
        ]
        # Then each job has ended by name, for good, and the same worker runs the next one
        for status in jobs:
            assert (status.state, status.result.error.code) == ("error", "E_VERSION_SKEW")
            assert status.result.error.message.startswith(f"job {status.job_id}: its ")
        wait_for(lambda: registry.jobs.live() == [])
        given = {"prompt": "x", "cond_video": str(portrait), "cond_audio": {"person1": str(voice)}}
        assert farm.submit(given).wait().state == "success"
        assert (worker.poll(), children_of(worker.pid)) == (None, processes)
        (kept,) = broker.redis.lrange(broker.key("dead-letters"), 0, -1)
        assert json.loads(kept)["headers"]["task"] == "farm.speak"


def ended(farm: Farm, job_id: str) -> Any:
    (status,) = [status for status in farm.jobs() if status.job_id == job_id]
    return status if status.ended else None
