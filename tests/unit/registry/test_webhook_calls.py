"""How often webhooks may call a host, over all workers."""

from __future__ import annotations

import pytest

from farm.registry import Registry
from farm.registry.keys import CALLS
from farm.registry.webhooks import MAX_DELAY_S, CallsRecord
from tests.support.backends import ClockBackend
from tests.support.formats import text_of

HOST = "hook.example"
PER_MINUTE = 6


@pytest.fixture
def clock() -> ClockBackend:
    return ClockBackend()


@pytest.fixture
def registry(clock: ClockBackend) -> Registry:
    return Registry(clock)


def take(registry: Registry, host: str = HOST, per_minute: int = PER_MINUTE) -> float:
    return registry.webhooks.take_call(host, per_minute=per_minute)


def fill(registry: Registry, host: str = HOST) -> None:
    assert [take(registry, host) for _ in range(PER_MINUTE)] == [0] * PER_MINUTE


def test_a_minutes_calls_may_be_made_at_once_and_the_next_waits(registry):
    fill(registry)
    assert take(registry) == pytest.approx(10, abs=1)


def test_the_cap_holds_for_all_workers_together(registry, clock):
    fill(registry)
    assert take(Registry(clock)) > 0


def test_delayed_calls_get_turns_one_after_the_other_and_find_room_then(registry, clock):
    fill(registry)
    assert [take(registry) for _ in range(3)] == pytest.approx([10, 20, 30], abs=1)
    for _ in range(3):
        clock.advance(10)
        assert take(registry) == 0


def test_no_more_calls_than_allowed_are_made_however_often_it_is_asked(registry, clock):
    made = 0
    for _ in range(600):  # ten minutes
        made += take(registry) == 0
        clock.advance(1)
    assert made == pytest.approx(PER_MINUTE + 10 * PER_MINUTE, abs=1)


def test_no_turn_is_further_away_than_ten_minutes(registry):
    fill(registry)
    assert max(take(registry) for _ in range(200)) == pytest.approx(MAX_DELAY_S, abs=1)


def test_each_host_has_its_own_calls(registry):
    fill(registry)
    assert take(registry, "other.example") == 0


def test_a_host_without_calls_in_the_last_minute_is_forgotten(registry, clock):
    for number in range(100):
        take(registry, f"{number}.example")
    clock.advance(61)
    take(registry)
    assert list(CallsRecord.parse(clock.texts[CALLS]).hosts) == [HOST]


def test_a_clock_that_is_set_back_delays_no_call_for_long(registry, clock):
    fill(registry)
    take(registry)
    clock.advance(-7200)
    assert take(registry) <= MAX_DELAY_S
    clock.advance(60)
    assert take(registry) == 0


def test_a_record_of_another_version_delays_no_call(registry, clock):
    fill(registry)
    clock.texts[CALLS] = text_of({}, format=2)
    assert take(registry) == 0
