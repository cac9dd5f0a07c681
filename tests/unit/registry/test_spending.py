"""What serverless endpoints cost in an hour."""

from __future__ import annotations

import pytest

from farm.registry import Registry
from farm.registry.spending import HOUR_S
from tests.support.backends import ClockBackend


@pytest.fixture
def clock() -> ClockBackend:
    return ClockBackend()


@pytest.fixture
def registry(clock) -> Registry:
    return Registry(clock)


def reserve(registry: Registry, attempt_id: str, gpu_s: float, *, for_s: float = 600) -> bool:
    until = registry.now() + for_s
    return registry.spending.reserve("e", attempt_id, gpu_s, until=until, limit_s=100)


def test_what_runs_and_what_was_spent_stay_within_the_limit(registry):
    assert reserve(registry, "a1", 60)
    assert not reserve(registry, "a2", 41)
    registry.spending.settle("e", "a1", 50)
    assert not reserve(registry, "a2", 51)
    assert reserve(registry, "a2", 50)
    assert registry.spending.of("e").committed_s == 100


def test_a_job_of_unknown_cost_costs_what_was_reserved(registry):
    reserve(registry, "a1", 60)
    registry.spending.settle("e", "a1", None)
    assert registry.spending.of("e").spent_s == 60


def test_an_attempt_is_settled_once(registry):
    reserve(registry, "a1", 60)
    registry.spending.settle("e", "a1", 10)
    registry.spending.settle("e", "a1", 10)
    assert registry.spending.of("e").spent_s == 10


def test_a_new_hour_has_a_new_limit_but_for_what_still_runs(registry, clock):
    reserve(registry, "a0", 70)
    registry.spending.settle("e", "a0", 70)
    reserve(registry, "a1", 30, for_s=2 * HOUR_S)
    clock.advance(HOUR_S)
    assert registry.spending.of("e").committed_s == 30


def test_a_reservation_ends_with_the_deadline_of_its_attempt(registry, clock):
    reserve(registry, "a1", 100, for_s=1)
    clock.advance(2)
    assert registry.spending.of("e").committed_s == 0


def test_a_reservation_can_be_extended(registry, clock):
    reserve(registry, "a1", 100, for_s=1)
    registry.spending.extend("e", "a1", until=registry.now() + 60)
    clock.advance(2)
    assert registry.spending.of("e").committed_s == 100


def test_each_endpoint_has_a_limit_of_its_own(registry):
    reserve(registry, "a1", 100)
    assert registry.spending.of("other").committed_s == 0
