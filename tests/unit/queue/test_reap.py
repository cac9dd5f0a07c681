"""The reaper dispatches the steps of orphaned jobs again, each on its own account."""

from __future__ import annotations

from pathlib import Path

from farm.registry import open_registry
from farm.registry.keys import job_key, request_key, step_key
from farm.route import DOWNLOAD
from tests.support.commands import run_python
from tests.support.formats import text_of
from tests.support.jobs import REQUEST

REAP_WITH_A_FAILURE = """
import tasks.reap
from farm.logs import configure

claim_due_step = tasks.reap.claim_due_step

def claim_unless_a(ctx, job_id):
    if job_id == "a":
        raise ValueError("https://example.org/face.png?X-Amz-Signature=secret")
    return claim_due_step(ctx, job_id)

tasks.reap.claim_due_step = claim_unless_a
configure()
print(tasks.reap.reap())
"""


def test_a_job_that_fails_stops_no_other_and_its_error_is_not_quoted(broker: str, tmp_path: Path):
    registry = open_registry(broker)
    for job_id in "ab":
        registry.jobs.add(job_id, REQUEST)
    done = run_python(REAP_WITH_A_FAILURE, FARM_BROKER_URL=broker, FARM_HOME=str(tmp_path))
    assert done.stdout == "1\n"
    assert registry.steps.dispatches("a", [DOWNLOAD.id]) == [0]
    assert registry.steps.dispatches("b", [DOWNLOAD.id]) == [1]
    (failed,) = [line for line in done.stderr.splitlines() if "redispatch_failed" in line]
    assert "ValueError" in failed
    assert "secret" not in done.stderr


REAP_TWICE = """
import tasks.reap
from farm.logs import configure

configure()
print(tasks.reap.reap())
print(tasks.reap.reap())
"""


def test_jobs_of_another_version_end_once_and_stop_no_other(broker: str, tmp_path: Path):
    registry = open_registry(broker)
    newer = {
        "newer-status": job_key("newer-status"),
        "newer-request": request_key("newer-request"),
        "newer-step": step_key("newer-step", "download"),
        "newer-lost": step_key("newer-lost", "download"),
    }
    for job_id in ("other", *newer):
        registry.jobs.add(job_id, REQUEST)
    registry.steps.claim_dispatch("newer-lost", "download", window_s=3600)
    for key in newer.values():
        registry.backend.redis.set(registry.backend.key(key), text_of({}, format=2))
    environ = {"FARM_BROKER_URL": broker, "FARM_HOME": str(tmp_path), "FARM_LEASE_S": "0.001"}
    done = run_python(REAP_TWICE, **environ)
    first, second = done.stdout.split()
    assert (first, second) == ("1", "0")
    assert registry.jobs.live() == ["other"]
    for job_id in newer:
        error = registry.jobs.status(job_id).result.error
        assert (error.code, error.message.split(":")[0]) == ("E_VERSION_SKEW", f"job {job_id}")
    assert len([line for line in done.stderr.splitlines() if "job_unreadable" in line]) == 4
