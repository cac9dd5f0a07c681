"""Steps in the registry: one lease, one output, however many ask for them."""

from __future__ import annotations

import pytest

from farm.errors import Cancelled, InvalidInput, WorkerLost
from farm.job import Event
from farm.registry import Lease, Registry
from farm.registry.attempt_id import fence_of
from farm.registry.records import CACHE_SIZE
from farm.registry.registry import Commit
from tests.support.attempts import attempt
from tests.support.backends import pass_time
from tests.support.jobs import REQUEST
from tests.support.outputs import chunk_output, committed, embed_output, mux_output
from tests.support.steps import LEASE_S, acquire, claim, commit, complete, expire
from tests.support.threads import race


def fences(*leases: Lease) -> list[int]:
    return [fence_of(lease.attempt_id) for lease in leases]


# Leases


def test_of_concurrent_workers_one_gets_the_lease(entered):
    answers = race(lambda: entered.steps.acquire("a", "mux", lease_s=60, max_attempts=3))
    leases = [lease for lease in answers if lease]
    assert [(fence_of(lease.attempt_id), lease.attempts) for lease in leases] == [(1, 1)]
    assert entered.steps.current_step_id("a") == "mux"


def test_an_expired_lease_is_acquired_by_another_attempt_under_a_higher_fence(entered):
    first = expire(entered)
    second = acquire(entered)
    assert (*fences(first, second), second.attempts) == (1, 2, 2)
    assert (first.after_expiry, second.after_expiry) == (False, True)


def test_a_renewed_lease_does_not_expire(entered):
    lease = acquire(entered, lease_s=LEASE_S)
    assert entered.steps.renew(lease, lease_s=3 * LEASE_S)
    pass_time(entered, 2 * LEASE_S)
    assert entered.steps.acquire("a", "mux", lease_s=60, max_attempts=3) is None


def test_a_superseded_attempt_cannot_renew_its_lease(entered):
    first = expire(entered)
    acquire(entered)
    assert not entered.steps.renew(first, lease_s=60)


def test_whether_steps_are_leased_is_known(entered):
    expire(entered, "generate-0000")
    acquire(entered, "embed")
    complete(entered, "download")
    step_ids = ["embed", "generate-0000", "download", "mux"]
    leased = entered.steps.leased(("a", step_id) for step_id in step_ids)
    assert leased == [True, False, False, False]


def test_a_released_lease_can_be_acquired_at_once_but_is_dispatched_after_its_pause(entered):
    assert entered.steps.release(acquire(entered), retry_after_s=5)
    assert not claim(entered)
    pass_time(entered, 2 * LEASE_S)
    assert claim(entered)
    assert acquire(entered).attempts == 2


def test_an_uncounted_attempt_has_a_fence_but_does_not_count(entered):
    interrupted = acquire(entered)
    entered.steps.release(interrupted, counted=False)
    again = acquire(entered)
    assert (again.attempts, *fences(interrupted, again)) == (1, 1, 2)


def test_a_superseded_attempt_cannot_release_the_lease_of_another(entered):
    slow = expire(entered)
    acquire(entered)
    assert not entered.steps.release(slow)
    assert entered.steps.acquire("a", "mux", lease_s=60, max_attempts=3) is None


def test_a_step_that_loses_every_worker_is_given_up(entered):
    for _ in range(2):
        expire(entered, max_attempts=2)
    with pytest.raises(
        WorkerLost, match="mux: none of 2 attempts committed, and the last one lost its worker"
    ):
        entered.steps.acquire("a", "mux", lease_s=60, max_attempts=2)


def test_attempts_at_one_step_do_not_count_for_another(entered):
    expire(entered, "download")
    assert acquire(entered, "embed").attempts == 1


def test_a_lease_does_not_bring_back_a_job_that_the_broker_has_lost(registry):
    acquire(registry)
    assert not registry.jobs.exists("a")


def test_the_wait_for_a_worker_is_measured(entered):
    claim(entered)
    pass_time(entered, 100)
    acquire(entered)
    assert entered.steps.waited_s("a", ["mux"]) == pytest.approx(100, abs=50)


def test_the_waits_of_several_steps_add_up(entered):
    for step_id in ("download", "embed"):
        claim(entered, step_id)
    pass_time(entered, 100)
    for step_id in ("download", "embed"):
        acquire(entered, step_id)
    waited_s = entered.steps.waited_s("a", ["download", "embed", "mux"])
    assert waited_s == pytest.approx(200, abs=50)


def test_a_step_that_was_never_dispatched_did_not_wait(entered):
    acquire(entered)
    assert entered.steps.waited_s("a", ["mux"]) == 0


# Outputs


def test_outputs_of_several_steps_are_returned_in_the_order_asked_for(entered):
    complete(entered, "generate-0001", chunk_output(segment_key="second"))
    complete(entered, "generate-0000", chunk_output(segment_key="first"))
    acquire(entered, "generate-0002")
    step_ids = [f"generate-000{chunk}" for chunk in range(4)]
    status, outputs = entered.snapshot("a", step_ids)
    assert status == entered.jobs.status("a")
    assert [each and each.output.segment_key for each in outputs] == ["first", "second", None, None]


def test_a_snapshot_of_no_steps_is_the_status(entered):
    assert entered.snapshot("a", []) == (entered.jobs.status("a"), [])


def test_a_snapshot_of_an_unknown_job_is_refused(registry):
    with pytest.raises(InvalidInput, match="job_id: got 'unknown'; there is no such job"):
        registry.snapshot("unknown", ["mux"])


def test_a_committed_output_is_the_steps(entered):
    lease = acquire(entered)
    envelope = committed(mux_output(), timings={"mux_ms": 7}, inputs={"embed": attempt(2)})
    assert entered.commit(lease, envelope)
    assert entered.steps.committed("a", "mux") == envelope


EMBEDDED = Event(stage="embeddings_ok", pct=15, job_id="a")


def commit_embed(registry: Registry, lease: Lease) -> Commit | None:
    """Commits with an event, and claims the dispatch of the first chunk."""
    envelope = committed(embed_output(), attempt_id=lease.attempt_id)
    return registry.commit(lease, envelope, events=[EMBEDDED], next_step_id="generate-0000")


def test_a_commit_advances_its_job_and_claims_the_dispatch_of_the_next_step(entered):
    assert commit_embed(entered, acquire(entered, "embed")) == Commit(dispatches=True)
    status = entered.jobs.status("a")
    assert (status.stage, status.pct) == ("embeddings_ok", 15)
    assert not claim(entered, "generate-0000")
    assert entered.jobs.orphaned() == []


def test_a_commit_does_not_claim_what_was_dispatched(entered):
    lease = acquire(entered, "embed")
    assert claim(entered, "generate-0000")
    assert commit_embed(entered, lease) == Commit(dispatches=False)
    assert entered.steps.record("a", "generate-0000").dispatches == 1


def test_a_superseded_commit_changes_nothing(entered):
    lease = expire(entered, "embed")
    acquire(entered, "embed")
    before = entered.jobs.status("a")
    assert commit_embed(entered, lease) is None
    assert entered.jobs.status("a") == before
    assert claim(entered, "generate-0000")


def test_nothing_is_committed_to_a_job_that_has_ended(entered):
    lease = acquire(entered, "embed")
    entered.jobs.cancel("a", by="the caller")
    with pytest.raises(Cancelled, match="job a has ended, so embed is not committed"):
        commit_embed(entered, lease)
    assert entered.steps.committed("a", "embed") is None
    assert entered.steps.record("a", "generate-0000").dispatches == 0


def test_a_job_ends_with_the_commit_of_its_video(entered):
    assert commit(entered, acquire(entered))
    assert entered.jobs.status("a").state == "success"
    assert list(entered.jobs.events("a"))[-1].stage == "completed"


def test_a_step_has_no_output_before_its_commit(entered):
    acquire(entered)
    assert entered.steps.committed("a", "mux") is None


def test_a_slow_worker_may_still_commit_if_no_other_attempt_began(entered):
    assert commit(entered, expire(entered))


def test_a_superseded_attempt_cannot_commit(entered):
    slow = expire(entered)
    quick = acquire(entered)
    assert not commit(entered, slow, mux_output(video_key="slow"))
    assert entered.steps.committed("a", "mux") is None
    assert commit(entered, quick, mux_output(video_key="quick"))
    assert entered.steps.committed("a", "mux").output.video_key == "quick"


def test_a_committed_step_is_not_run_again(entered):
    lease = complete(entered, "mux", mux_output(video_key="first"))
    assert entered.steps.acquire("a", "mux", lease_s=60, max_attempts=3) is None
    assert not commit(entered, lease, mux_output(video_key="second"))
    assert entered.steps.committed("a", "mux").output.video_key == "first"


def test_superseded_attempts_are_known_as_such(entered):
    first = expire(entered).attempt_id
    assert not entered.steps.is_superseded("a", "mux", first)
    second = acquire(entered).attempt_id
    attempts = (first, second, attempt(2), attempt(3))
    superseded = [entered.steps.is_superseded("a", "mux", each) for each in attempts]
    assert superseded == [True, False, True, False]


# Restoring


def test_a_restored_output_is_the_steps(entered):
    restored = committed(mux_output(), attempt_id=attempt(2))
    entered.steps.restore("a", "mux", attempt_id=attempt(2), committed=restored)
    assert entered.steps.committed("a", "mux") == restored
    assert entered.steps.acquire("a", "mux", lease_s=60, max_attempts=3) is None


def test_restoring_replaces_no_committed_output(entered):
    complete(entered, "mux", mux_output(video_key="first"))
    second = committed(mux_output(video_key="second"), attempt_id=attempt(2))
    entered.steps.restore("a", "mux", attempt_id=attempt(2), committed=second)
    entered.steps.restore("a", "mux", attempt_id=attempt(3))
    assert entered.steps.committed("a", "mux").output.video_key == "first"


def test_an_attempt_from_before_a_restored_fence_cannot_commit(entered):
    before = acquire(entered)
    entered.steps.restore("a", "mux", attempt_id=attempt(1000))
    after = acquire(entered)
    assert (*fences(after), after.attempts) == (1001, 1)
    assert not commit(entered, before)
    assert commit(entered, after)


# The cache


def test_the_cache_of_a_process_is_bounded(registry):
    for number in range(3 * CACHE_SIZE):
        registry.entries.add(f"job {number}", REQUEST)
        registry.steps.claim_dispatch(f"job {number}", "mux")
        registry.snapshot(f"job {number}", ["mux"])
    assert len(registry._records._cache) < 2 * CACHE_SIZE
