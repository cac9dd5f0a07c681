"""Parts of a stream: each is delivered once, to any reader."""

from __future__ import annotations

from farm.registry import Registry
from tests.support.threads import race


def test_a_part_is_handed_out_once(entered: Registry):
    assert list(entered.parts.take("a", 2)) == [0, 1]
    assert list(entered.parts.take("a", 2)) == []
    assert list(entered.parts.take("a", 3)) == [2]


def test_of_many_readers_each_part_has_one(entered: Registry):
    taken = race(lambda: list(entered.parts.take("a", 5)))
    assert sorted(part for parts in taken for part in parts) == [0, 1, 2, 3, 4]


def test_a_job_that_is_forgotten_leaves_no_count(entered: Registry):
    entered.parts.take("a", 2)
    entered.jobs.cancel("a", by="a test")

    entered.entries.forget("a", [])

    assert entered.parts.taken("a") == 0
