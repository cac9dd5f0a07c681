"""One thread of a process renews the leases of all its attempts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from farm.engine.context import Context
from farm.engine.leases import LeaseKeeper
from farm.errors import VersionSkew
from farm.registry import Lease
from tests.support.harness import Harness
from tests.support.steps import acquire
from tests.support.waiting import wait_for


@pytest.fixture
def ctx(entered: Harness) -> Context:
    settings = entered.ctx.settings.model_copy(update={"lease_s": 0.2})
    return replace(entered.ctx, settings=settings)


@pytest.fixture
def threads() -> Callable[[], set[threading.Thread]]:
    """Those that renew leases, without those that tests before have left."""

    def found() -> set[threading.Thread]:
        return {each for each in threading.enumerate() if each.name == "leases"}

    before = found()
    return lambda: found() - before


def expiry(ctx: Context, lease: Lease) -> float:
    return ctx.registry.steps.record("a", lease.step_id).lease_expires_at


def test_one_thread_renews_all_leases_and_ends_with_them(ctx, threads):
    keeper = LeaseKeeper()
    first, second = (acquire(ctx.registry, step_id) for step_id in ("download", "embed"))
    before = [expiry(ctx, first), expiry(ctx, second)]
    with (
        keeper.keep(ctx, first, outlives_job=False) as lost,
        keeper.keep(ctx, second, outlives_job=False),
    ):
        wait_for(lambda: expiry(ctx, first) != before[0] and expiry(ctx, second) != before[1])
        assert len(threads()) == 1
    assert not lost.is_set()
    wait_for(lambda: not threads())


def test_a_thread_that_has_ended_is_followed_by_another(ctx, threads):
    keeper = LeaseKeeper()
    for step_id in ("download", "embed"):
        with keeper.keep(ctx, acquire(ctx.registry, step_id), outlives_job=False):
            assert threads()
        wait_for(lambda: not threads())


def test_a_lease_that_another_attempt_holds_is_lost(ctx, entered):
    lease = acquire(ctx.registry, "download")
    entered.clock.advance(61)
    acquire(ctx.registry, "download")
    with LeaseKeeper().keep(ctx, lease, outlives_job=False) as lost:
        assert lost.wait(timeout=10)


def test_a_lease_is_not_renewed_once_its_block_has_ended(ctx, threads, monkeypatch):
    # Given a renewal that has begun when the block ends
    begun, go_on = threading.Event(), threading.Event()
    renew = ctx.registry.steps.renew

    def wait_and_renew(lease: Lease, *, lease_s: float) -> bool:
        begun.set()
        go_on.wait()
        return renew(lease, lease_s=lease_s)

    monkeypatch.setattr(ctx.registry.steps, "renew", wait_and_renew)
    lease = acquire(ctx.registry, "download")
    with LeaseKeeper().keep(ctx, lease, outlives_job=False):
        begun.wait()
        threading.Timer(0.05, go_on.set).start()
    # Then the block waits for it, and none follows
    assert go_on.is_set()
    ctx.registry.steps.release(lease)
    released = ctx.registry.steps.record("a", "download")
    wait_for(lambda: not threads())
    assert ctx.registry.steps.record("a", "download") == released


def test_an_unreadable_record_ends_no_other_renewal(ctx, monkeypatch):
    broken, sound = (acquire(ctx.registry, step_id) for step_id in ("download", "embed"))
    renew = ctx.registry.steps.renew
    renewed = threading.Event()

    def refuse_one(lease: Lease, *, lease_s: float) -> bool:
        if lease is broken:
            raise VersionSkew("its record is in another format")
        renewed.set()
        return renew(lease, lease_s=lease_s)

    monkeypatch.setattr(ctx.registry.steps, "renew", refuse_one)
    keeper = LeaseKeeper()
    with (
        keeper.keep(ctx, broken, outlives_job=False),
        keeper.keep(ctx, sound, outlives_job=False),
    ):
        for _ in range(2):
            assert renewed.wait(timeout=10)
            renewed.clear()
