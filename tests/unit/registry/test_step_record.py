"""The rules of a step's record, without a backend."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from farm.errors import VersionSkew
from farm.registry import Registry, step_record
from farm.registry.step_record import UNTIL_LOST, Lease, StepRecord, StepState
from farm.registry.steps import StepRegistry
from tests.support.attempts import FIRST, attempt
from tests.support.formats import text_of
from tests.support.outputs import committed, mux_output

NOW = 1000.0
YEAR_S = 365 * 86_400.0
LEASE_S = 15.0
PAUSE_S = 4.0
OUTPUT = committed(mux_output())

NEW = StepRecord()


def dispatch(record: StepRecord, now: float = NOW) -> StepRecord:
    changed = record.dispatched(now)
    assert changed is not None
    return changed


def lease(record: StepRecord, now: float = NOW) -> StepRecord:
    changed = record.leased(now, lease_s=LEASE_S, random="0")
    assert changed is not None
    return changed


def lease_of(record: StepRecord) -> Lease:
    """The lease of the last attempt."""
    return record.lease("a", "mux")


def release(record: StepRecord, now: float = NOW, **how: Any) -> StepRecord | None:
    flags = {"counted": True, "declined": False, "requeued": False}
    options = {"retry_after_s": 0.0, **flags, **how}
    return record.released(lease_of(record), now, **options)


def commit(record: StepRecord) -> StepRecord:
    changed = record.committed_by(lease_of(record), OUTPUT)
    assert changed is not None
    return changed


DISPATCHED = dispatch(NEW)
LEASED = lease(DISPATCHED)
COMMITTED = commit(LEASED)
RECORDS = {
    StepState.UNCOVERED: NEW,
    StepState.DISPATCHED: DISPATCHED,
    StepState.LEASED: LEASED,
    StepState.COMMITTED: COMMITTED,
}

# Transitions

MINE = Lease("a", "mux", FIRST, 1)
"""The lease of the first attempt."""

Rule = Callable[[StepRecord], StepRecord | None]
RULES: dict[str, Rule] = {
    "dispatched": lambda record: record.dispatched(NOW),
    "marked lost": StepRecord.marked_lost,
    "leased": lambda record: record.leased(NOW, lease_s=LEASE_S, random="0"),
    "renewed": lambda record: record.renewed(MINE, expires_at=NOW + LEASE_S),
    "released": lambda record: record.released(
        MINE, NOW, retry_after_s=0, counted=True, declined=False, requeued=False
    ),
    "released for a pause": lambda record: record.released(
        MINE, NOW, retry_after_s=PAUSE_S, counted=True, declined=False, requeued=False
    ),
    "requeued": lambda record: record.released(
        MINE, NOW, retry_after_s=0, counted=False, declined=False, requeued=True
    ),
    "committed": lambda record: record.committed_by(MINE, OUTPUT),
    "restored with a fence": lambda record: record.restored(attempt_id=attempt(7), committed=None),
    "restored with an output": lambda record: record.restored(
        attempt_id=attempt(7), committed=OUTPUT
    ),
}

ALLOWED: dict[tuple[str, StepState], StepState] = {
    ("dispatched", StepState.UNCOVERED): StepState.DISPATCHED,
    ("marked lost", StepState.DISPATCHED): StepState.UNCOVERED,
    ("leased", StepState.UNCOVERED): StepState.LEASED,
    ("leased", StepState.DISPATCHED): StepState.LEASED,
    ("renewed", StepState.LEASED): StepState.LEASED,
    ("released", StepState.LEASED): StepState.UNCOVERED,
    ("released for a pause", StepState.LEASED): StepState.DISPATCHED,
    ("requeued", StepState.LEASED): StepState.DISPATCHED,
    ("committed", StepState.LEASED): StepState.COMMITTED,
    ("restored with a fence", StepState.UNCOVERED): StepState.UNCOVERED,
    ("restored with a fence", StepState.DISPATCHED): StepState.UNCOVERED,
    ("restored with a fence", StepState.LEASED): StepState.UNCOVERED,
    ("restored with an output", StepState.UNCOVERED): StepState.COMMITTED,
    ("restored with an output", StepState.DISPATCHED): StepState.COMMITTED,
    ("restored with an output", StepState.LEASED): StepState.COMMITTED,
}
"""The state after each transition that is allowed; every other one is refused."""


@pytest.mark.parametrize("before", StepState, ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_leads_to_the_state_that_the_table_says_or_is_refused(rule, before):
    after = RULES[rule](RECORDS[before])
    expected = ALLOWED.get((rule, before))
    assert (after and after.state(NOW)) == expected


@pytest.mark.parametrize("before", StepState, ids=str)
def test_a_record_is_in_the_state_that_it_is_named_after(before):
    assert RECORDS[before].state(NOW) is before


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_changes_a_committed_step(rule):
    assert RULES[rule](COMMITTED) is None


def test_the_drawing_shows_every_state_and_only_commands_of_the_registry():
    drawing = (step_record.__doc__ or "").split("\n\n")[1]
    words = set(re.findall(r"[a-z_]+", drawing))
    assert set(StepState) <= words
    commands = {"claim_dispatch", "acquire", "release", "commit", "mark_lost"}
    assert commands <= words
    owners = (Registry, StepRegistry)
    assert all(any(hasattr(owner, command) for owner in owners) for command in commands)


# Dispatches


def test_a_dispatch_is_counted_and_covers_the_step_until_its_message_is_lost():
    assert (DISPATCHED.dispatches, DISPATCHED.dispatched_at) == (1, NOW)
    assert DISPATCHED.dispatched(NOW + YEAR_S) is None
    again = dispatch(DISPATCHED.marked_lost(), NOW + YEAR_S)
    assert (again.dispatches, again.dispatched_at) == (2, NOW + YEAR_S)


def test_a_dispatch_that_another_version_gave_an_end_is_kept_beyond_it():
    ended = DISPATCHED.model_copy(update={"dispatch_expires_at": NOW + PAUSE_S})
    assert ended.dispatched(NOW + PAUSE_S) is None
    assert ended.kept(NOW + PAUSE_S) == DISPATCHED


def test_only_a_message_that_waits_is_kept():
    assert DISPATCHED.kept(NOW + YEAR_S) == DISPATCHED
    for record in (NEW, LEASED, COMMITTED, DISPATCHED.marked_lost(), release(LEASED)):
        assert record.kept(NOW) is None
    leased_behind_its_copy = dispatch(LEASED, NOW + LEASE_S).renewed(MINE, expires_at=NOW + YEAR_S)
    assert leased_behind_its_copy.kept(NOW + LEASE_S) is None


def test_a_step_is_dispatched_again_once_its_lease_has_expired():
    assert LEASED.dispatched(NOW + LEASE_S - 1) is None
    assert dispatch(LEASED, NOW + LEASE_S).dispatches == 2


@pytest.mark.parametrize(
    ("record", "undelivered"),
    [
        (NEW, False),
        (DISPATCHED, True),
        (LEASED, False),
        (COMMITTED, False),
        (release(LEASED), False),
        (release(LEASED, requeued=True), True),
        (dispatch(LEASED, NOW + LEASE_S), True),
        (commit(dispatch(LEASED, NOW + LEASE_S)), False),
        (lease(dispatch(LEASED, NOW + LEASE_S), NOW + LEASE_S), False),
        (release(lease(NEW), requeued=True), True),
    ],
    ids=[
        "new",
        "dispatched",
        "leased",
        "committed",
        "released",
        "requeued",
        "dispatched again",
        "committed behind its second dispatch",
        "leased again",
        "requeued though it was never dispatched",
    ],
)
def test_a_message_is_undelivered_from_its_dispatch_to_its_lease(record, undelivered):
    assert record.is_undelivered is undelivered


def test_a_message_that_led_to_a_lease_cannot_be_lost():
    paused = release(LEASED, retry_after_s=PAUSE_S)
    assert paused.marked_lost() is None


def test_the_dispatch_of_a_lost_message_covers_nothing():
    lost = DISPATCHED.marked_lost()
    assert (lost.covered_until, lost.dispatches) == (0, 1)
    assert dispatch(lost).dispatches == 2


# Covered


@pytest.mark.parametrize(
    ("record", "until"),
    [
        (NEW, 0),
        (DISPATCHED, UNTIL_LOST),
        (LEASED, NOW + LEASE_S),
        (lease(NEW), NOW + LEASE_S),
        (LEASED.renewed(MINE, expires_at=NOW + 99), NOW + 99),
        (release(LEASED), NOW),
        (release(LEASED, retry_after_s=PAUSE_S), NOW + PAUSE_S),
        (release(LEASED, retry_after_s=PAUSE_S, requeued=True), UNTIL_LOST),
        (COMMITTED, 0),
        (commit(dispatch(LEASED, NOW + LEASE_S)), 0),
        (dispatch(LEASED, NOW + LEASE_S), UNTIL_LOST),
    ],
    ids=[
        "new",
        "dispatched",
        "leased",
        "leased without a dispatch",
        "renewed",
        "released",
        "released for a pause",
        "requeued",
        "committed",
        "committed behind its second dispatch",
        "dispatched behind an expired lease",
    ],
)
def test_a_step_is_covered_by_its_lease_or_its_dispatch(record, until):
    assert record.covered_until == until


# Leases


def test_each_lease_has_a_higher_fence_and_counts_one_more_attempt():
    again = lease(LEASED, NOW + LEASE_S)
    assert [(record.fence, record.attempts) for record in (LEASED, again)] == [(1, 1), (2, 2)]


def test_a_lease_that_has_not_expired_is_not_acquired_again():
    assert LEASED.leased(NOW + LEASE_S - 0.001, lease_s=LEASE_S, random="0") is None


@pytest.mark.parametrize(
    ("before", "after_expiry"),
    [(NEW, False), (DISPATCHED, False), (LEASED, True), (release(LEASED), False)],
    ids=["new", "dispatched", "expired", "released"],
)
def test_an_attempt_knows_whether_the_one_before_lost_its_worker(before, after_expiry):
    assert lease(before, NOW + LEASE_S).after_expiry is after_expiry


def test_an_attempt_after_a_released_one_follows_no_expiry_though_an_earlier_one_had_expired():
    expired_once = lease(LEASED, NOW + LEASE_S)
    assert not lease(release(expired_once, NOW + LEASE_S), NOW + LEASE_S).after_expiry


def test_a_lease_ends_the_cover_of_its_dispatch():
    assert lease(DISPATCHED).dispatch_expires_at == 0


def test_an_expired_lease_may_be_renewed_released_or_committed_while_it_is_the_last():
    for rule in ("renewed", "released", "committed"):
        assert RULES[rule](dispatch(LEASED, NOW + LEASE_S)) is not None


@pytest.mark.parametrize("rule", ["renewed", "released", "requeued", "committed"])
def test_a_superseded_attempt_changes_nothing(rule):
    taken_over = lease(LEASED, NOW + LEASE_S)
    assert RULES[rule](taken_over) is None


@pytest.mark.parametrize("rule", ["renewed", "released", "requeued", "committed"])
def test_an_attempt_whose_lease_was_forgotten_changes_nothing_of_one_with_the_same_token(rule):
    other = DISPATCHED.leased(NOW, lease_s=LEASE_S, random="1")
    assert (other.fence, RULES[rule](other)) == (LEASED.fence, None)


def test_of_two_attempts_with_the_same_token_only_the_one_on_record_is_not_superseded():
    other = DISPATCHED.leased(NOW, lease_s=LEASE_S, random="1")
    for record in (other, commit(other)):
        assert record.is_superseded(LEASED.attempt_id)
        assert not record.is_superseded(other.attempt_id)


def test_the_wait_is_from_the_last_dispatch_to_its_lease():
    assert lease(DISPATCHED, NOW + 7).waited_s == 7
    assert (NEW.waited_s, DISPATCHED.waited_s, lease(NEW).waited_s) == (0, 0, 0)


def test_the_wait_is_never_negative():
    dispatched_again = dispatch(LEASED, NOW + LEASE_S)
    assert dispatched_again.waited_s == 0


# Releases


@pytest.mark.parametrize(("counted", "attempts"), [(True, 2), (False, 1)])
def test_an_uncounted_attempt_is_taken_off_again(counted, attempts):
    second = lease(LEASED, NOW + LEASE_S)
    released = release(second, counted=counted)
    assert (released.attempts, released.fence) == (attempts, 2)


def test_declined_attempts_are_counted_by_themselves():
    declined = release(LEASED, counted=False, declined=True)
    again = lease(declined)
    assert (again.attempts, again.lease("a", "mux").declined) == (1, 1)
    assert release(again).declined == 1


def test_a_released_step_is_dispatched_after_its_pause_but_may_be_acquired_at_once():
    paused = release(LEASED, retry_after_s=PAUSE_S)
    assert paused.dispatched(NOW + PAUSE_S - 1) is None
    assert dispatch(paused, NOW + PAUSE_S).dispatches == 2
    assert lease(paused).attempts == 2


def test_a_requeued_message_can_be_lost_again():
    requeued = release(LEASED, counted=False, requeued=True)
    lost = requeued.marked_lost()
    assert (lost.covered_until, lost.attempts) == (0, 0)


def test_a_requeued_message_that_leads_to_a_lease_is_consumed():
    requeued = release(LEASED, counted=False, requeued=True)
    assert not lease(requeued).is_undelivered


# Outputs


def test_a_committed_step_keeps_its_output_and_its_fence():
    assert (COMMITTED.committed, COMMITTED.fence) == (OUTPUT, 1)
    assert COMMITTED.lease_expires_at == 0


@pytest.mark.parametrize(
    ("record", "superseded"),
    [
        (NEW, []),
        (LEASED, []),
        (lease(LEASED, NOW + LEASE_S), [1]),
        (commit(lease(LEASED, NOW + LEASE_S)), [1, 3, 4]),
        (NEW.restored(attempt_id=attempt(3), committed=None), [1, 2]),
        (NEW.restored(attempt_id=attempt(3), committed=OUTPUT), [1, 2, 4]),
    ],
    ids=["new", "leased", "leased again", "committed", "fenced off", "restored"],
)
def test_an_attempt_is_superseded_once_it_can_neither_be_nor_become_the_committed_one(
    record, superseded
):
    assert [fence for fence in range(1, 5) if record.is_superseded(attempt(fence))] == superseded


def test_a_restored_record_knows_nothing_of_the_lost_one():
    restored = LEASED.restored(attempt_id=attempt(1000), committed=None)
    assert restored == StepRecord(attempt_id=attempt(1000))
    assert lease(restored).fence == 1001


def test_a_restored_record_may_hold_an_output():
    restored = NEW.restored(attempt_id=attempt(2), committed=OUTPUT)
    assert restored == StepRecord(attempt_id=attempt(2), committed=OUTPUT)


# Texts


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_record_is_read_as_it_was_written(record):
    assert StepRecord.parse(record.text, job_id="a", step_id="mux") == record


def test_a_step_without_a_record_is_new():
    assert StepRecord.parse(None, job_id="a", step_id="mux") == NEW


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "(it is not JSON)"),
        ("[]", "(it must be an object)"),
        (text_of({"rings": 1, "met": 1}), "rings: there is no such field"),
        (text_of({"attempts": "1"}), "attempts: it must be a whole number"),
        (text_of({"committed": {"output": {"chunks": 3}}}), "output: it needs 'step'"),
        (text_of({"committed": {"output": {"step": "mux"}}}), "output.mux.result: it is missing"),
        (text_of({}, format=2), "is in format 2, and this version reads 1"),
    ],
    ids=[
        "no JSON",
        "no object",
        "an older record",
        "another type",
        "an untyped output",
        "an output without its fields",
        "a newer format",
    ],
)
def test_the_error_for_an_unreadable_record_names_its_job_and_step(text, reason):
    with pytest.raises(VersionSkew) as caught:
        StepRecord.parse(text, job_id="a", step_id="mux")
    message = caught.value.message
    assert message.startswith("job a: the record of step mux ")
    assert reason in message
