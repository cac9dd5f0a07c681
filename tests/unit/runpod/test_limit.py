"""The time that a serverless job may take."""

from __future__ import annotations

from unittest.mock import Mock

from farm.runpod.limit import TimeLimit


def began(seconds_ago: float, limit_s: float | None) -> TimeLimit:
    clock = Mock(return_value=0)
    limit = TimeLimit(limit_s, clock)
    clock.return_value = seconds_ago
    return limit


def test_without_a_limit_there_is_always_time() -> None:
    limit = began(1e9, None)
    limit.note_chunk(1e9)
    assert limit.allows_chunk()
    assert not limit.is_up()


def test_a_reserve_is_kept_for_the_answer() -> None:
    assert not began(3580, 3600).is_up()
    assert began(3595, 3600).is_up()


def test_the_reserve_of_a_short_limit_is_a_tenth() -> None:
    assert not began(8, 10).is_up()
    assert began(9.5, 10).is_up()


def test_no_chunk_begins_that_would_take_too_long() -> None:
    limit = began(60, 100)
    assert limit.allows_chunk()
    limit.note_chunk(20)
    assert limit.allows_chunk()
    limit.note_chunk(25)
    limit.note_chunk(5)
    assert not limit.allows_chunk()
