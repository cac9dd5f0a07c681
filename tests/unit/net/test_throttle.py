"""Throttles of requests and of failed logins."""

from __future__ import annotations

import pytest

from farm.net import throttle
from farm.net.throttle import MAX_FAILURES, RECOVERY_S, LoginThrottle

HERE = "203.0.113.7"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def logins(clock):
    return LoginThrottle(clock)


def fail(logins, times, address=HERE):
    return [logins.take(address) for _ in range(times)]


def test_after_so_many_failures_an_address_waits(logins):
    assert fail(logins, MAX_FAILURES + 1) == [0.0] * MAX_FAILURES + [RECOVERY_S]


def test_waiting_gives_one_more_attempt(logins, clock):
    fail(logins, MAX_FAILURES)
    clock.now = RECOVERY_S / 3
    assert logins.take(HERE) == pytest.approx(RECOVERY_S * 2 / 3)
    clock.now = RECOVERY_S
    assert fail(logins, 2) == [0.0, RECOVERY_S]


def test_a_refused_attempt_does_not_prolong_the_wait(logins, clock):
    fail(logins, MAX_FAILURES + 100)
    clock.now = RECOVERY_S
    assert logins.take(HERE) == 0.0


def test_all_attempts_come_back_but_not_more(logins, clock):
    fail(logins, MAX_FAILURES)
    clock.now = 100 * MAX_FAILURES * RECOVERY_S
    assert fail(logins, MAX_FAILURES + 1) == [0.0] * MAX_FAILURES + [RECOVERY_S]


def test_a_login_that_succeeds_costs_nothing(logins):
    for _ in range(10 * MAX_FAILURES):
        assert logins.take(HERE) == 0.0
        logins.put_back(HERE)


def test_addresses_are_throttled_by_themselves(logins):
    fail(logins, MAX_FAILURES)
    assert logins.take("203.0.113.8") == 0.0


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:203.0.113.7", "::ffff:203.0.113.8", False),
        ("", "", True),
    ],
)
def test_an_ipv6_network_counts_as_one_address(logins, first, second, same):
    fail(logins, MAX_FAILURES, first)
    assert (logins.take(second) > 0) == same


def test_only_so_many_addresses_are_remembered(logins, monkeypatch):
    monkeypatch.setattr(throttle, "MAX_NAMES", 3)
    fail(logins, MAX_FAILURES, "busy")
    for number in range(10):
        logins.take(f"address {number}")
        assert logins.take("busy") > 0, "it is the most recent one"
    for number in range(3):
        logins.take(f"other {number}")
    assert logins.take("busy") == 0.0
