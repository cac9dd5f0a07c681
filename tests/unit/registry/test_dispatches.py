"""Dispatches of steps: one at a time, covered until the message is known to be lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from farm.job import Result
from farm.registry import Registry
from farm.registry.keys import LIVE, UNDELIVERED
from tests.support.backends import pass_time
from tests.support.jobs import REQUEST
from tests.support.steps import LEASE_S, acquire, claim, commit, complete, expire
from tests.support.threads import race

# Covered


def release_and_requeue(registry: Registry) -> None:
    registry.steps.release(acquire(registry), counted=False, requeued=True)


COVERS: dict[str, Callable[[Registry, float], Any]] = {
    "leased": lambda registry, lease_s: acquire(registry, lease_s=lease_s),
    "renewed": lambda registry, lease_s: registry.steps.renew(
        acquire(registry, lease_s=0), lease_s=lease_s
    ),
    "released": lambda registry, retry_after_s: registry.steps.release(
        acquire(registry), retry_after_s=retry_after_s
    ),
}
"""Ways to cover the step `mux` of the job `a` for some seconds."""

WAITS: dict[str, Callable[[Registry], Any]] = {"dispatched": claim, "requeued": release_and_requeue}
"""Ways to cover it until its message is lost."""


@pytest.mark.parametrize("cover", COVERS.values(), ids=COVERS)
def test_a_job_is_not_orphaned_while_its_step_is_covered(entered, cover):
    cover(entered, 60)
    assert (entered.jobs.orphaned(), entered.jobs.live()) == ([], ["a"])


@pytest.mark.parametrize("cover", COVERS.values(), ids=COVERS)
def test_a_job_is_orphaned_once_its_step_is_not_covered_any_more(entered, cover):
    cover(entered, LEASE_S)
    pass_time(entered, 2 * LEASE_S)
    assert entered.jobs.orphaned() == ["a"]


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_a_job_is_not_orphaned_as_long_as_its_message_waits(registry, wait):
    registry.entries.add("a", REQUEST)
    wait(registry)
    year_s = 365 * 86_400
    pass_time(registry, year_s)
    assert (registry.jobs.orphaned(), registry.jobs.live()) == ([], ["a"])
    assert not claim(registry)
    assert registry.steps.undelivered(for_s=year_s - 60) == [("a", "mux")]


def test_a_job_is_orphaned_between_a_commit_and_the_next_dispatch(entered):
    complete(entered, "embed")
    assert entered.jobs.orphaned() == ["a"]
    claim(entered)
    assert entered.jobs.orphaned() == []


def test_a_job_is_orphaned_behind_a_late_commit_though_its_step_was_dispatched_again(entered):
    lease = expire(entered)
    claim(entered)
    commit(entered, lease)
    assert entered.jobs.orphaned() == ["a"]


def test_a_job_whose_message_could_not_be_sent_is_orphaned(entered):
    claim(entered)
    entered.steps.mark_lost("a", "mux")
    assert entered.jobs.orphaned() == ["a"]


# Dispatches


def test_of_concurrent_claims_of_a_dispatch_one_succeeds(entered):
    assert sorted(race(lambda: claim(entered))) == [False] * 7 + [True]
    assert entered.steps.record("a", "mux").dispatches == 1


def test_what_redis_has_lost_of_a_waiting_message_is_entered_again_by_the_next_claim(entered):
    claim(entered)
    entered.backend.remove_member(UNDELIVERED, "a mux")
    assert entered.steps.unlisted() == {"a"}
    entered.backend.add_member(LIVE, "a", 0)
    assert not claim(entered)
    assert entered.steps.undelivered() == [("a", "mux")]
    assert (entered.steps.unlisted(), entered.jobs.orphaned()) == (set(), [])
    assert entered.steps.record("a", "mux").dispatches == 1


def test_a_claim_enters_nothing_behind_a_commit(entered):
    claim(entered)
    complete(entered, "mux")
    assert not claim(entered)
    assert (entered.steps.undelivered(), entered.jobs.orphaned()) == ([], ["a"])


def test_one_caller_at_a_time_searches_all_queues(entered):
    assert sorted(race(lambda: entered.steps.claim_search(every_s=60))) == [False] * 7 + [True]
    assert not entered.steps.claim_search(every_s=60)
    assert entered.steps.claim_search(every_s=0)


def test_a_step_may_be_dispatched_again_once_its_message_led_to_a_lease(entered):
    claim(entered)
    entered.steps.release(acquire(entered))
    assert claim(entered)


def test_a_message_is_undelivered_from_its_dispatch_to_its_lease(entered):
    assert entered.steps.undelivered() == []
    claim(entered)
    assert entered.steps.undelivered(for_s=60) == []
    assert entered.steps.undelivered() == [("a", "mux")]
    acquire(entered)
    assert entered.steps.undelivered() == []


def test_a_message_of_a_process_whose_clock_is_ahead_is_undelivered(entered, monkeypatch):
    with monkeypatch.context() as sender:
        sender.setattr(entered.backend, "now", entered.backend.now)
        pass_time(entered, 60)
        claim(entered)
    assert entered.steps.undelivered() == [("a", "mux")]
    assert entered.steps.unlisted() == set()
    assert entered.steps.undelivered(for_s=0) == []


def test_a_requeued_message_is_undelivered_again(entered):
    claim(entered)
    release_and_requeue(entered)
    assert entered.steps.undelivered() == [("a", "mux")]
    assert entered.steps.attempts("a", "mux") == 0
    entered.steps.mark_lost("a", "mux")
    assert claim(entered)


def test_a_superseded_attempt_requeues_no_message(entered):
    lease = expire(entered)
    acquire(entered)
    assert not entered.steps.release(lease, retry_after_s=60, counted=False, requeued=True)
    assert entered.steps.undelivered() == []


def test_a_step_whose_message_is_lost_may_be_dispatched_again_at_once(entered):
    claim(entered)
    entered.steps.mark_lost("a", "mux")
    assert entered.steps.undelivered() == []
    assert claim(entered)


def test_a_message_that_led_to_a_lease_after_all_is_not_lost(entered):
    claim(entered)
    entered.steps.release(acquire(entered), retry_after_s=60)
    entered.steps.mark_lost("a", "mux")
    assert entered.jobs.orphaned() == []
    assert not claim(entered)


def test_the_message_of_a_forgotten_job_is_dropped_once_it_is_marked_lost(entered):
    claim(entered)
    entered.jobs.end("a", "success", Result(job_id="a", status="success"))
    entered.entries.forget("a", ["mux"])
    entered.steps.mark_lost("a", "mux")
    assert entered.steps.undelivered() == []
    assert not entered.jobs.exists("a")
    assert entered.steps.record("a", "mux").dispatches == 0


def test_a_postponed_step_is_covered_and_its_message_is_neither_undelivered_nor_counted(entered):
    claim(entered)
    entered.steps.postpone("a", "mux", due_in_s=60)
    assert (entered.jobs.orphaned(), entered.steps.undelivered()) == ([], [])
    assert not claim(entered)
    assert entered.steps.attempts("a", "mux") == 0


def test_a_postponed_step_may_be_dispatched_early_by_one_caller(entered):
    claim(entered)
    entered.steps.postpone("a", "mux", due_in_s=60)
    assert sorted(race(lambda: claim(entered, early=True))) == [False] * 7 + [True]
    assert entered.steps.undelivered() == [("a", "mux")]


def test_a_postponed_step_is_dispatched_once_it_is_due(entered):
    claim(entered)
    entered.steps.postpone("a", "mux", due_in_s=5)
    pass_time(entered, 2 * LEASE_S)
    assert entered.jobs.orphaned() == ["a"]
    assert claim(entered)


def test_a_leased_step_is_neither_postponed_nor_dispatched_early(entered):
    claim(entered)
    lease = acquire(entered)
    assert not entered.steps.postpone("a", "mux", due_in_s=60)
    assert not claim(entered, early=True)
    assert commit(entered, lease)
    assert not claim(entered, early=True)


def test_a_step_whose_message_is_in_a_queue_is_not_dispatched_early(entered):
    claim(entered)
    assert not claim(entered, early=True)
    release_and_requeue(entered)
    assert not claim(entered, early=True)


def test_each_step_is_dispatched_separately(entered):
    assert claim(entered, "generate-0000")
    assert claim(entered, "generate-0001")
    assert entered.steps.record("a", "generate-0000").dispatches == 1
    assert entered.steps.record("a", "mux").dispatches == 0


def test_a_leased_step_is_not_dispatched(entered):
    acquire(entered)
    assert not claim(entered)


def test_a_committed_step_is_not_dispatched(entered):
    complete(entered, "mux")
    assert not claim(entered)


def test_the_time_of_the_last_dispatch_is_known(entered):
    claim(entered)
    steps = [("a", "mux"), ("a", "embed"), ("unknown", "mux")]
    dispatched_at, *others = entered.steps.dispatched_at(steps)
    assert abs(dispatched_at - entered.now()) < 5
    assert others == [None, None]
