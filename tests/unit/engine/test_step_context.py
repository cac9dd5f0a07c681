"""What a running step asks between two blocks: whether it is to stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from farm.engine.step_context import StepContext, Throttle, WorkerDraining
from farm.errors import Cancelled
from farm.registry import Registry
from farm.route import DOWNLOAD, NOTIFY, Step
from tests.support.backends import CountingBackend
from tests.support.harness import Harness
from tests.support.steps import step_context


def running(entered: Harness, scratch: Path, step: Step = DOWNLOAD) -> StepContext:
    """A step that asks the registry whenever it is asked itself."""
    return replace(step_context(entered.ctx, step, scratch=scratch), stop_poll=Throttle(0))


def test_a_step_of_a_live_job_goes_on(entered, tmp_path):
    running(entered, tmp_path).raise_if_stopped()


def test_a_step_of_a_cancelled_job_stops(entered, tmp_path):
    entered.registry.jobs.cancel("a", by="a test")
    with pytest.raises(Cancelled, match="job a is over"):
        running(entered, tmp_path).raise_if_stopped()


def test_a_step_stops_once_another_attempt_holds_its_lease(entered, tmp_path):
    ctx = running(entered, tmp_path)
    ctx.lease_lost.set()
    with pytest.raises(Cancelled, match="another attempt at download holds the lease"):
        ctx.raise_if_stopped()


def test_a_step_of_a_draining_worker_stops(entered, tmp_path):
    with pytest.raises(WorkerDraining):
        replace(running(entered, tmp_path), draining=lambda: True).raise_if_stopped()


def test_a_step_that_runs_after_the_end_goes_on_after_it(entered, tmp_path):
    entered.registry.jobs.cancel("a", by="a test")
    running(entered, tmp_path, NOTIFY).raise_if_stopped()


def test_the_registry_is_not_asked_at_every_call(entered, tmp_path):
    backend = CountingBackend(entered.clock)
    ctx = step_context(entered.ctx, DOWNLOAD, scratch=tmp_path)
    ctx = replace(ctx, registry=Registry(backend))
    for _ in range(1000):
        ctx.raise_if_stopped()
    assert backend.requests <= 1
