"""Time limits of a job: the reaper ends it, whatever became of who submitted it."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.engine.context import Context
from farm.engine.deadlines import end_overdue
from farm.job import Event, JobStatus, TimeLimits
from farm.registry import Registry
from farm.settings import Settings
from farm.store.memory import MemoryStore
from tests.support.backends import ClockBackend
from tests.support.jobs import REQUEST

BOTH = TimeLimits(ttl_s=100, execution_s=30)


@pytest.fixture
def clock() -> ClockBackend:
    return ClockBackend()


@pytest.fixture
def ctx(clock: ClockBackend, tmp_path: Path) -> Context:
    return Context(Settings(home=tmp_path), MemoryStore(), Registry(clock))


def enter(ctx: Context, limits: TimeLimits) -> None:
    ctx.registry.entries.add("a", REQUEST, limits=limits)


def start(ctx: Context) -> None:
    ctx.registry.jobs.report(Event(stage="validation_started", pct=0, job_id="a"))


def status_after(ctx: Context, clock: ClockBackend, seconds: float) -> JobStatus:
    clock.advance(seconds)
    end_overdue(ctx)
    return ctx.registry.jobs.status("a")


def test_a_job_that_waits_too_long_is_ended(ctx: Context, clock: ClockBackend):
    enter(ctx, TimeLimits(ttl_s=100))

    assert status_after(ctx, clock, 90).state == "queued"
    ended = status_after(ctx, clock, 11)

    assert ended.result is not None
    assert ended.result.error is not None
    assert (ended.state, ended.result.error.code) == ("error", "E_TIMEOUT")
    assert "100 s of its submission (ttl_s)" in ended.result.error.message


def test_the_time_to_run_begins_with_the_first_step(ctx: Context, clock: ClockBackend):
    enter(ctx, BOTH)
    assert status_after(ctx, clock, 50).state == "queued"
    start(ctx)

    assert status_after(ctx, clock, 29).state == "running"
    ended = status_after(ctx, clock, 2)

    assert ended.state == "error"
    assert "30 s of its start (execution_s)" in ended.details["message"]


def test_a_job_that_ends_in_time_is_left_alone(ctx: Context, clock: ClockBackend):
    enter(ctx, BOTH)
    ctx.registry.jobs.cancel("a", by="a test")

    assert status_after(ctx, clock, 101).state == "cancelled"
    assert ctx.registry.deadlines.due() == []


def test_a_job_without_limits_is_never_looked_at(ctx: Context, clock: ClockBackend):
    enter(ctx, TimeLimits())

    assert status_after(ctx, clock, 1e9).state == "queued"


def test_a_job_that_was_forgotten_is_not_looked_at_again(ctx: Context, clock: ClockBackend):
    enter(ctx, BOTH)
    ctx.registry.jobs.cancel("a", by="a test")
    ctx.registry.entries.forget("a", [])

    clock.advance(101)
    end_overdue(ctx)

    assert ctx.registry.deadlines.due() == []
    assert ctx.registry.deadlines.limits("a") == TimeLimits()
