"""Attempts that run outside the farm: adopted by the next bridge, and paid from a budget."""

from __future__ import annotations

import pytest

from farm.registry import Registry
from farm.registry.remote import RemoteJob
from farm.registry.steps import remote_attempt
from farm.registry.workers import worker_name
from tests.support.backends import ClockBackend
from tests.support.jobs import REQUEST
from tests.support.outputs import chunk_output
from tests.support.steps import acquire, adopt, commit, submit_remote
from tests.support.threads import race

STEP = "generate-0000"
LEASE_S = 60.0


@pytest.fixture
def clock() -> ClockBackend:
    return ClockBackend()


@pytest.fixture
def registry(clock) -> Registry:
    found = Registry(clock)
    found.entries.add("a", REQUEST)
    return found


# Adoption


def test_a_bridge_adopts_the_attempt_of_a_dead_one_uncounted(registry, clock):
    first = submit_remote(registry)
    clock.advance(LEASE_S + 1)
    adopted = adopt(registry)
    assert adopted is not None
    assert (adopted.attempt_id, adopted.attempts) == (first.attempt_id, first.attempts)
    assert adopted.remote == RemoteJob(endpoint="e", id="r1", deadline=adopted.remote.deadline)
    assert not adopted.after_expiry


def test_an_attempt_that_is_held_is_not_adopted(registry):
    submit_remote(registry)
    assert adopt(registry) is None


def test_of_two_bridges_one_adopts(registry, clock):
    submit_remote(registry)
    clock.advance(LEASE_S + 1)
    assert adopt(registry) is not None
    assert adopt(registry) is None


def test_the_bridge_before_loses_the_lease(registry, clock):
    before = submit_remote(registry)
    clock.advance(LEASE_S + 1)
    adopted = adopt(registry)
    assert not registry.steps.renew(before, lease_s=LEASE_S)
    assert not registry.steps.release(before)
    assert not registry.steps.detach(before)
    assert not commit(registry, before, chunk_output())
    assert commit(registry, adopted, chunk_output())


def test_a_detached_attempt_is_orphaned_at_once_and_adopted(registry):
    lease = submit_remote(registry)
    assert registry.steps.detach(lease)
    assert registry.jobs.orphaned() == ["a"]
    adopted = adopt(registry)
    assert (adopted.attempt_id, adopted.attempts) == (lease.attempt_id, 1)


def test_another_worker_takes_the_step_with_a_new_attempt(registry, clock):
    first = submit_remote(registry)
    clock.advance(LEASE_S + 1)
    taken = acquire(registry, STEP)
    assert taken.attempt_id > first.attempt_id
    assert taken.remote is None
    assert registry.steps.is_superseded("a", STEP, first.attempt_id)


def test_an_attempt_past_its_deadline_counts_as_lost(registry, clock):
    submit_remote(registry, for_s=90)
    clock.advance(91)
    lease = adopt(registry)
    assert (lease.attempts, lease.remote) == (2, None)


def test_an_attempt_whose_submission_was_interrupted_does_not_count(registry, clock):
    submit_remote(registry, remote_id=None)
    clock.advance(LEASE_S + 1)
    lease = adopt(registry)
    assert (lease.attempts, lease.remote) == (1, None)


def test_a_failed_attempt_is_not_adopted(registry):
    lease = submit_remote(registry)
    registry.steps.release(lease)
    assert adopt(registry).attempts == 2


@pytest.fixture
def waiting(registry) -> Registry:
    """A registry with a remote attempt that a bridge has left, and whose message waits."""
    registry.steps.detach(submit_remote(registry))
    assert registry.steps.claim_dispatch("a", STEP)
    return registry


def test_the_message_of_a_remote_attempt_goes_to_the_bridges_if_one_lives(registry):
    registry.workers.heartbeat(worker_name("bridge", "host", 1))
    registry.steps.detach(submit_remote(registry))
    assert registry.steps.claim_dispatch("a", STEP)
    assert registry.steps.record("a", STEP).waits_for_bridge
    assert registry.steps.waiting_for_bridges() == [("a", STEP)]
    assert not registry.steps.recall("a", STEP)
    assert registry.jobs.orphaned() == []


def test_without_a_bridge_it_goes_to_the_gpus_until_one_bridge_recalls_it(waiting):
    assert not waiting.steps.record("a", STEP).waits_for_bridge
    assert waiting.steps.waiting_for_bridges() == []
    assert sorted(race(lambda: waiting.steps.recall("a", STEP))) == [False] * 7 + [True]
    assert waiting.steps.waiting_for_bridges() == [("a", STEP)]
    assert waiting.steps.record("a", STEP).dispatches == 2


def test_what_has_ended_or_runs_is_not_recalled(waiting, clock):
    adopted = adopt(waiting)
    assert not waiting.steps.recall("a", STEP), "it runs"
    waiting.steps.detach(adopted)
    assert not waiting.steps.recall("a", STEP), "it has no message"
    assert waiting.steps.claim_dispatch("a", STEP)
    clock.advance(601)
    assert not waiting.steps.recall("a", STEP), "its deadline is over"


# The index


def test_remote_attempts_are_listed(registry):
    lease = submit_remote(registry)
    (attempt,) = registry.remote.attempts()
    remote = RemoteJob(endpoint="e", id="r1", deadline=0)
    assert attempt == remote_attempt(lease, remote)
    registry.remote.forget(attempt)
    assert registry.remote.attempts() == []


def test_a_submission_without_an_id_is_not_listed(registry):
    submit_remote(registry, remote_id=None)
    assert registry.remote.attempts() == []


def test_remote_attempts_are_forgotten_at_their_deadline(registry, clock):
    submit_remote(registry, for_s=90)
    registry.remote.forget_expired()
    assert len(registry.remote.attempts()) == 1
    clock.advance(91)
    registry.remote.forget_expired()
    assert registry.remote.attempts() == []
