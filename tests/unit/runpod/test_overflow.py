"""When chunks overflow: only as far as settings, budget and the endpoint allow."""

from __future__ import annotations

from math import inf

import pytest

from farm.engine.context import Context
from farm.queue.app import make_app
from farm.queue.brokers import open_broker
from farm.registry import Registry
from farm.registry.workers import worker_name
from farm.runpod.bridge import open_bridge
from farm.runpod.budget import Budget
from farm.runpod.overflow import PAUSE_S, Overflow, cancel_abandoned, recall
from farm.settings import Settings
from tests.support.backends import ClockBackend
from tests.support.jobs import REQUEST
from tests.support.runpod import FakeRunpod, fake_runpod
from tests.support.steps import acquire, submit_remote

S3 = {
    "store_url": "s3://a-bucket/prefix",
    "s3_access_key": "key",
    "s3_secret_key": "secret",
    "runpod_endpoint_id": "e",
    "runpod_api_key": "rpa_key",
}


@pytest.fixture
def clock() -> ClockBackend:
    return ClockBackend()


def overflow(clock: ClockBackend, **settings: object) -> Overflow:
    chosen = Settings.model_validate({**S3, **settings})
    bridge = open_bridge(chosen)
    return Overflow(bridge, Context(chosen, bridge.store, Registry(clock)))


def add_gpu(registry: Registry, slots: int | None = None) -> None:
    registry.workers.heartbeat(worker_name("gpu", "host", 1, slots))


def add_job(registry: Registry, gpu_s: float, job_id: str = "a") -> None:
    registry.entries.add(job_id, REQUEST)
    registry.backend.add_member("remaining_gpu_s", job_id, gpu_s)


def test_without_a_gpu_of_its_own_a_farm_always_overflows(clock):
    assert overflow(clock).is_open()
    assert overflow(clock, bridge_overflow_wait_s=1e9).is_open()


def test_with_a_gpu_of_its_own_a_farm_does_not_overflow_by_default(clock):
    closed = overflow(clock)
    add_gpu(closed.ctx.registry)
    add_job(closed.ctx.registry, 1e6)
    assert not closed.is_open()


def test_slots_of_bridges_are_no_gpus_of_the_farms_own(clock):
    opened = overflow(clock)
    add_gpu(opened.ctx.registry, slots=9)
    assert opened.is_open()


def test_chunks_overflow_while_the_predicted_wait_is_too_long(clock):
    limited = overflow(clock, bridge_overflow_wait_s=100)
    add_gpu(limited.ctx.registry)
    add_job(limited.ctx.registry, 99)
    assert not limited.is_open()
    add_job(limited.ctx.registry, 101)
    assert limited.is_open()


def test_the_slots_of_bridges_do_not_shorten_the_wait_that_opened_them(clock):
    limited = overflow(clock, bridge_overflow_wait_s=100)
    add_gpu(limited.ctx.registry)
    add_gpu(limited.ctx.registry, slots=9)
    for number in range(10):  # which ten GPUs could make at the same time
        add_job(limited.ctx.registry, 11, f"job-{number}")
    assert limited.is_open()


def test_a_budget_that_is_used_up_closes_it(clock):
    limited = overflow(clock, bridge_gpu_s_per_hour=100)
    spend(limited.ctx.registry, 99)
    assert limited.is_open()
    spend(limited.ctx.registry, 1)
    assert not limited.is_open()
    clock.advance(3600)
    assert limited.is_open()


def spend(registry: Registry, gpu_s: float) -> None:
    until = registry.now() + 60
    assert registry.spending.reserve("e", "attempt", gpu_s, until=until, limit_s=inf)
    registry.spending.settle("e", "attempt", gpu_s)


def test_a_budget_without_room_for_the_next_chunk_stays_closed_for_the_hour(clock):
    limited = overflow(clock, bridge_gpu_s_per_hour=100)
    spend(limited.ctx.registry, 95)
    limited.pause("the budget of this hour is used up", 20)
    clock.advance(PAUSE_S + 1)
    assert not limited.is_open()
    clock.advance(3600)
    assert limited.is_open()


@pytest.mark.parametrize(
    ("limits", "budget_s"),
    [
        ({}, inf),
        ({"bridge_gpu_s_per_hour": 50}, 50),
        ({"bridge_cost_per_hour": 2, "bridge_price_per_s": 0.001}, 2000),
        (
            {
                "bridge_gpu_s_per_hour": 50,
                "bridge_cost_per_hour": 2,
                "bridge_price_per_s": 0.001,
            },
            50,
        ),
        ({"bridge_gpu_s_per_hour": 0}, 0),
    ],
)
def test_the_budget_is_the_lower_one_of_seconds_and_money(limits, budget_s):
    assert Budget.of(Settings.model_validate(limits)).limit_s == budget_s


def test_a_refusal_closes_it_for_a_while(clock):
    paused = overflow(clock)
    paused.pause("the key is wrong")
    assert not paused.is_open()
    clock.advance(PAUSE_S + 1)
    assert paused.is_open()


@pytest.fixture
def runpod() -> FakeRunpod:
    with fake_runpod() as fake:
        yield fake


@pytest.mark.parametrize("reason", ["the job was cancelled", "another attempt was begun", None])
def test_remote_jobs_that_nobody_needs_are_cancelled(clock, runpod, reason):
    left = overflow(clock, runpod_url=runpod.url, runpod_api_key=runpod.key)
    registry = left.ctx.registry
    registry.entries.add("a", REQUEST)
    remote = runpod.submit({"input": {}}, "e")
    submit_remote(registry, remote_id=remote.id)
    clock.advance(60)
    if reason == "the job was cancelled":
        registry.jobs.cancel("a", by="a test")
    elif reason:
        acquire(registry, "generate-0000")

    cancel_abandoned(left.bridge, left.ctx)

    assert remote.status == ("CANCELLED" if reason else "IN_QUEUE")
    assert bool(registry.remote.attempts()) == (not reason)


def test_a_remote_job_that_cannot_be_cancelled_yet_is_cancelled_later(clock, runpod):
    left = overflow(clock, runpod_url=runpod.url, runpod_api_key=runpod.key)
    registry = left.ctx.registry
    registry.entries.add("a", REQUEST)
    remote = runpod.submit({"input": {}}, "e")
    submit_remote(registry, remote_id=remote.id)
    registry.jobs.cancel("a", by="a test")
    with runpod.away("cancel"):
        cancel_abandoned(left.bridge, left.ctx)
    assert remote.status == "IN_QUEUE"
    cancel_abandoned(left.bridge, left.ctx)
    assert remote.status == "CANCELLED"


def test_a_chunk_that_waits_for_a_gpu_is_recalled_to_the_bridges_once(clock, broker):
    ctx = overflow(clock, broker_url=broker).ctx
    app, registry = make_app(ctx.settings), ctx.registry
    registry.entries.add("a", REQUEST)
    registry.steps.claim_dispatch("a", "generate-0000")
    registry.steps.detach(submit_remote(registry))
    assert registry.steps.claim_dispatch("a", "generate-0000"), "no bridge lives"
    for _ in range(2):
        recall(app, ctx)
    assert open_broker(ctx.settings).waiting_steps(["bridge"]) == {("a", "generate-0000")}
    assert registry.steps.record("a", "generate-0000").dispatches == 3
