"""The broker has lost a part of a job that it knows: that part is entered again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farm.client import Job
from farm.engine import journal
from farm.engine.context import Context
from farm.maintenance.recover import Recovered
from farm.registry import Registry
from farm.registry.attempt_id import fence_of
from farm.registry.formats import dump
from farm.registry.outputs import StepOutput
from farm.route import MUX, Step
from farm.store import integrity, keys
from tests.support.outputs import committed, embed_output, mux_output, output_of
from tests.support.recovery import recover_one
from tests.support.steps import acquire, commit, run_step


@pytest.fixture
def running(entered: Context) -> Context:
    """The context of the job `a`, of whose three chunks the first is committed."""
    steps = ["download", "embed", "generate-0000"]
    for number, step_id in enumerate(steps):
        output = embed_output(chunks=3) if step_id == "embed" else output_of(step_id)
        run_elsewhere(entered, step_id, output, inputs=steps[:number])
    return entered


def run_elsewhere(ctx: Context, step_id: str, output: StepOutput, *, inputs: list[str]) -> None:
    """Runs a step of `a` as a worker does."""
    lease = acquire(ctx.registry, step_id)
    read = {each: ctx.registry.steps.committed("a", each).attempt_id for each in inputs}
    envelope = committed(output, attempt_id=lease.attempt_id, inputs=read)
    key = keys.attempt("a", step_id, lease.attempt_id, keys.OUTPUT)
    integrity.put_sealed(ctx.store, key, dump(envelope).encode())
    assert ctx.registry.commit(lease, envelope)


def lose_keys(ctx: Context, *names: str) -> Context:
    """The same context after its broker has lost some keys."""
    backend = ctx.registry.backend
    for name in names:
        assert backend.texts.pop(name, None) or backend.indices.pop(name, None), name
    return replace(ctx, registry=Registry(backend))


KEYS = {
    "live": "live",
    "jobs": "jobs",
    "remaining_gpu_s": "remaining_gpu_s",
    "request": "request:a",
    "download": "step:a:download",
    "embed": "step:a:embed",
    "generate-0000": "step:a:generate-0000",
}
"""The keys of a running job by the name of what is lost with them."""


@pytest.mark.parametrize("part", KEYS)
def test_a_lost_part_of_a_running_job_is_entered_again(running, part):
    before = running.registry.backend
    texts = {key: text for key, text in before.texts.items() if not key.startswith("step:")}
    indices = {name: set(members) for name, members in before.indices.items()}
    lost = lose_keys(running, KEYS[part])
    resumed = Recovered("a", "repaired", part, kept=part in steps(), step=Step("generate", 1))
    assert recover_one(lost) == resumed
    after = lost.registry.backend
    assert {key: text for key, text in after.texts.items() if not key.startswith("step:")} == texts
    assert {name: set(members) for name, members in after.indices.items() if members} == {
        **{name: members for name, members in indices.items() if members},
        "undelivered": {"a generate-0001"},
    }
    for step_id in steps():
        assert lost.registry.steps.committed("a", step_id)
    assert recover_one(lost) == Recovered("a", "known")


def steps() -> list[str]:
    return [name for name in KEYS if f"step:a:{name}" == KEYS[name]]


def test_all_that_is_lost_of_a_job_is_named(running):
    lost = lose_keys(running, *KEYS.values())
    found = recover_one(lost)
    assert (found.outcome, set(found.reason.split(", "))) == ("repaired", set(KEYS))
    assert lost.registry.jobs.live() == ["a"]


def test_a_worker_whose_lease_is_lost_cannot_commit(running):
    lease = acquire(running.registry, "generate-0001")
    running.store.put(keys.attempt("a", "generate-0001", lease.attempt_id, "data"), b"half of it")
    lost = lose_keys(running, "step:a:generate-0001")
    found = recover_one(lost)
    assert (found.reason, found.step) == ("generate-0001", Step("generate", 1))
    assert not commit(lost.registry, lease)
    assert fence_of(acquire(lost.registry, "generate-0001").attempt_id) > 1_000_000_000_000


def test_a_running_step_is_not_disturbed_by_a_repair(running):
    lease = acquire(running.registry, "generate-0001")
    lost = lose_keys(running, "live", "jobs", "request:a")
    assert recover_one(lost).step is None
    assert commit(lost.registry, lease)


def test_the_attempt_whose_record_is_lost_counts_again(running):
    before = running.registry.steps.committed("a", "embed")
    lost = lose_keys(running, "step:a:embed")
    recover_one(lost)
    assert lost.registry.steps.committed("a", "embed") == before


def test_an_ended_job_needs_no_record_of_its_chunks(running):
    Job(running, "a").cancel()
    lost = lose_keys(running, "step:a:embed", "step:a:generate-0000")
    assert recover_one(lost) == Recovered("a", "known")


def test_an_ended_job_gets_its_video_and_its_place_in_the_list_again(running):
    run_elsewhere(running, "mux", mux_output(), inputs=["embed", "generate-0000"])
    run_step(running, "a", MUX)
    lost = lose_keys(running, "jobs", "step:a:mux")
    assert recover_one(lost) == Recovered("a", "repaired", "jobs, mux", kept=1)
    assert [status.state for status in lost.registry.jobs.newest()] == ["success"]
    assert (lost.registry.jobs.live(), bool(lost.registry.steps.committed("a", "mux"))) == (
        [],
        True,
    )


def test_a_job_whose_end_was_not_stored_is_live_again(entered):
    entered.registry.jobs.cancel("a", by="a test")
    lost = lose_keys(entered, "live")
    assert recover_one(lost) == Recovered("a", "repaired", "live")
    assert journal.read_end(lost.store, "a") == lost.registry.jobs.status("a")
    assert lost.registry.jobs.live() == []


def test_a_known_job_without_its_request_in_the_store_is_named(running):
    running.store.delete(keys.request("a"))
    assert recover_one(running) == Recovered("a", "known")
    assert recover_one(lose_keys(running, "request:a")).outcome == "unreadable"
