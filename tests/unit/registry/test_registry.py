"""The book: one body of tests over a ledger in memory and one in a real broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from farm.errors import Cancelled, DownloadFailed, FarmUnreachable, InvalidInput, WorkerLost
from farm.job import Event, JobRequest, JobStatus, Result
from farm.registry import Lease, Registry, open_registry
from farm.registry.jobs import queued
from farm.registry.records import CACHE_SIZE

REQUEST = JobRequest(
    prompt="x", cond_video="https://example.org/face.png", cond_audio={"person1": "https://example.org/voice.wav"}
)
SUCCESS = Result(job_id="a", status="success")
SHORT_S = 0.05


@pytest.fixture(params=["memory", "broker"])
def registry(request: pytest.FixtureRequest) -> Registry:
    url = "memory://" if request.param == "memory" else request.getfixturevalue("broker")
    return open_registry(url)


@pytest.fixture
def entered(registry: Registry) -> Registry:
    """A registry with the job `a`."""
    registry.jobs.add("a", REQUEST)
    return registry


def take(registry: Registry, step_id: str = "mux", *, lease_s: float = 60, max_attempts: int = 3) -> Lease:
    lease = registry.steps.acquire("a", step_id, lease_s=lease_s, max_attempts=max_attempts)
    assert lease is not None
    return lease


def lose(registry: Registry, step_id: str = "mux", *, max_attempts: int = 3) -> Lease:
    """A lease whose worker fell silent."""
    lease = take(registry, step_id, lease_s=SHORT_S, max_attempts=max_attempts)
    time.sleep(2 * SHORT_S)
    return lease


def told(registry: Registry, job_id: str = "a") -> list[tuple[str, float]]:
    return [(event.stage, event.pct) for event in registry.jobs.events(job_id, wait_s=0.05)]


def report(registry: Registry, stage: str, pct: float, **details: Any) -> None:
    registry.jobs.report(Event(job_id="a", stage=stage, pct=pct, details=details))


def race(call: Callable[[], Any], runners: int = 8) -> list[Any]:
    """What a call gives to each of many threads that start it in the same moment."""
    start, answers = threading.Barrier(runners), []

    def run() -> None:
        start.wait()
        answers.append(call())

    threads = [threading.Thread(target=run) for _ in range(runners)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


# Jobs


def test_a_new_job_is_queued_and_live(registry):
    assert registry.jobs.add("a", REQUEST)
    status = registry.jobs.status("a")
    assert (status.state, status.stage, status.pct, status.ended) == ("queued", "queued", 0, False)
    assert abs(status.created_at - time.time()) < 5
    assert registry.jobs.live() == ["a"]


def test_the_request_comes_back_as_it_was_entered(entered):
    assert entered.request("a") == REQUEST


def test_a_request_is_read_once(entered):
    assert entered.request("a") is entered.request("a")


def test_a_request_that_was_asked_for_too_early_is_found_later(registry):
    with pytest.raises(InvalidInput):
        registry.jobs.request("a")
    registry.jobs.add("a", REQUEST)
    assert registry.jobs.request("a") == REQUEST


def test_a_job_is_entered_once(entered):
    report(entered, "downloads_ok", 8)
    assert not entered.add("a", REQUEST.model_copy(update={"prompt": "another"}))
    assert entered.request("a").prompt == "x"
    assert entered.job("a").stage == "downloads_ok"


@pytest.mark.parametrize("call", ["job", "request"])
def test_an_unknown_job_is_named(registry, call):
    with pytest.raises(InvalidInput, match="job_id: got 'nobody'; there is no such job"):
        getattr(registry, call)("nobody")


def test_an_idempotency_key_belongs_to_the_first_job(registry):
    assert registry.jobs.claim_idempotency_key("key", "a") == "a"
    assert registry.jobs.claim_idempotency_key("key", "b") == "a"
    assert registry.jobs.claim_idempotency_key("other key", "b") == "b"


def test_many_claims_at_once_agree_on_one_job(registry):
    ids = iter("abcdefgh")
    assert len(set(race(lambda: registry.jobs.claim_idempotency_key("key", next(ids))))) == 1


def test_jobs_come_newest_first(registry):
    for job_id in ("c", "a", "b"):
        registry.jobs.add(job_id, REQUEST)
        time.sleep(0.002)
    assert [status.job_id for status in registry.jobs.newest()] == ["b", "a", "c"]


def test_jobs_are_listed_page_by_page(registry, monkeypatch):
    monkeypatch.setattr("farm.registry.PAGE", 2)
    for job_id in "abcde":
        registry.jobs.add(job_id, REQUEST)
    assert sorted(status.job_id for status in registry.jobs.newest()) == list("abcde")


def test_a_job_that_has_ended_is_live_until_that_is_settled(entered):
    entered.add("b", REQUEST)
    entered.end("a", "success", SUCCESS)
    assert sorted(entered.live()) == ["a", "b"]
    entered.close("a")
    assert entered.live() == ["b"]
    assert len(list(entered.jobs())) == 2


def test_a_new_job_is_idle(entered):
    assert entered.idle() == ["a"]


CARE: dict[str, Callable[[Registry, float], Any]] = {
    "rung for": lambda registry, window_s: registry.steps.claim_dispatch("a", "mux", window_s=window_s),
    "taken": lambda registry, lease_s: take(registry, lease_s=lease_s),
    "renewed": lambda registry, lease_s: registry.steps.renew(take(registry, lease_s=0), lease_s=lease_s),
    "given back": lambda registry, after_s: registry.steps.release(take(registry), retry_after_s=after_s),
    "handed back": lambda registry, window_s: registry.steps.release(take(registry), window_s=window_s),
}
"""Ways to be busy with the job `a` for so many seconds."""


@pytest.mark.parametrize("care", CARE.values(), ids=CARE)
def test_a_job_is_not_idle_while_somebody_cares_for_its_step(entered, care):
    care(entered, 60)
    assert (entered.idle(), entered.live()) == ([], ["a"])


@pytest.mark.parametrize("care", CARE.values(), ids=CARE)
def test_a_job_is_idle_when_nobody_cares_for_its_step_any_more(entered, care):
    care(entered, SHORT_S)
    time.sleep(2 * SHORT_S)
    assert entered.idle() == ["a"]


def test_a_job_is_idle_between_a_product_and_the_message_for_the_next(entered):
    entered.commit(take(entered, "embed"), {})
    assert entered.idle() == ["a"]
    entered.ring("a", "mux", window_s=60)
    assert entered.idle() == []


def test_a_message_that_could_not_be_sent_leaves_its_job_idle(entered):
    entered.ring("a", "mux", window_s=60)
    entered.lost("a", "mux")
    assert entered.idle() == ["a"]


def test_a_job_that_has_ended_is_idle_until_that_is_settled_whoever_was_at_it(entered):
    take(entered)
    entered.cancel("a", by="the caller")
    assert entered.idle() == ["a"]
    entered.close("a")
    assert entered.idle() == []


def test_a_worker_that_is_late_brings_no_settled_job_back(entered):
    lease = take(entered)
    entered.cancel("a", by="the caller")
    entered.close("a")
    entered.commit(lease, {})
    entered.ring("a", "mux", window_s=0)
    assert (entered.idle(), entered.live()) == ([], [])


def test_jobs_come_newest_first_whatever_becomes_of_them(entered):
    time.sleep(0.002)
    entered.add("b", REQUEST)
    entered.cancel("b", by="the caller")
    take(entered)
    assert [status.job_id for status in entered.jobs()] == ["b", "a"]


def test_a_settled_job_that_is_entered_again_is_not_live(entered):
    entered.end("a", "success", SUCCESS)
    entered.close("a")
    assert not entered.add("a", REQUEST)
    assert entered.live() == []


def test_a_job_is_known_once_it_is_entered(registry):
    assert not registry.jobs.exists("a")
    registry.jobs.add("a", REQUEST)
    assert registry.jobs.exists("a")


def test_a_job_is_entered_again_as_it_had_ended(registry):
    ended = JobStatus(
        job_id="a",
        state="success",
        stage="completed",
        pct=100,
        details={},
        created_at=1000,
        updated_at=2000,
        result=SUCCESS,
    )
    assert registry.jobs.restore(ended, REQUEST)
    assert (registry.jobs.status("a"), registry.jobs.request("a"), registry.jobs.live()) == (ended, REQUEST, [])
    assert [status.job_id for status in registry.jobs.newest()] == ["a"]
    assert told(registry) == [("completed", 100)]


def test_a_job_that_is_known_is_not_entered_again(entered):
    report(entered, "downloads_ok", 8)
    assert not entered.restore(queued("a", 1000), REQUEST, at="mux")
    assert (entered.job("a").stage, entered.at("a")) == ("downloads_ok", None)


def test_a_forgotten_job_is_as_if_it_had_never_been(registry):
    request = REQUEST.model_copy(update={"idempotency_key": "key"})
    registry.jobs.claim_idempotency_key("key", "a")
    registry.jobs.add("a", request)
    registry.steps.commit(take(registry), {"video": "key"})
    registry.jobs.end("a", "success", SUCCESS)
    registry.jobs.forget("a", ["mux"])
    assert not registry.jobs.exists("a")
    assert (list(registry.jobs.newest()), registry.jobs.live(), registry.steps.committed("a", "mux")) == ([], [], None)
    assert registry.jobs.claim_idempotency_key("key", "b") == "b"
    registry.jobs.add("a", REQUEST)
    registry.jobs.cancel("a", by="the caller")
    assert (told(registry), registry.jobs.request("a")) == ([("cancelled", 0)], REQUEST)


@pytest.mark.parametrize("job_id", ["a", "b"])
def test_forgetting_twice_or_what_never_was_does_nothing(entered, job_id):
    entered.forget("a", ["mux"])
    entered.forget(job_id, ["mux"])
    assert list(entered.jobs()) == []


# Progress


def test_a_report_moves_the_job(entered):
    report(entered, "embeddings_ok", 15, frames=81)
    status = entered.job("a")
    assert (status.state, status.stage, status.pct, status.details) == ("running", "embeddings_ok", 15, {"frames": 81})
    assert status.updated_at >= status.created_at


def test_percent_never_falls_not_even_when_a_step_is_done_again(entered):
    for stage, pct in (("embeddings_ok", 15), ("downloads_started", 3), ("generation_started", 20)):
        report(entered, stage, pct)
    entered.end("a", "success", SUCCESS)
    assert told(entered) == [
        ("embeddings_ok", 15),
        ("downloads_started", 15),
        ("generation_started", 20),
        ("completed", 100),
    ]


def test_a_report_after_the_end_stops_the_step(entered):
    entered.end("a", "success", SUCCESS)
    with pytest.raises(Cancelled, match="job a has ended"):
        report(entered, "muxing_ok", 90)
    assert told(entered) == [("completed", 100)]


def test_a_step_of_a_job_that_the_broker_has_lost_stops(registry):
    with pytest.raises(Cancelled, match="the broker has lost it"):
        report(registry, "muxing_ok", 90)
    assert not registry.jobs.exists("a")


def test_a_job_that_the_broker_has_lost_does_not_end(registry):
    assert not registry.jobs.end("a", "success", SUCCESS)
    assert not registry.jobs.exists("a")


def test_a_late_listener_hears_everything_from_the_beginning(entered):
    report(entered, "validation_started", 0)
    report(entered, "validation_ok", 2, size="x")
    entered.end("a", "success", SUCCESS)
    events = list(entered.events("a"))
    assert [event.stage for event in events] == ["validation_started", "validation_ok", "completed"]
    assert events[1].details == {"size": "x"}


def test_a_listener_hears_an_event_when_it_happens(entered):
    events = entered.events("a", wait_s=5)
    speaker = threading.Timer(0.1, report, (entered, "validation_started", 0))
    began = time.monotonic()
    speaker.start()
    assert next(events).stage == "validation_started"
    assert 0.05 < time.monotonic() - began < 2
    speaker.join()


def test_two_listeners_hear_the_same(entered):
    report(entered, "validation_started", 0)
    entered.end("a", "success", SUCCESS)
    assert told(entered) == told(entered) == [("validation_started", 0), ("completed", 100)]


def test_a_listener_need_not_wait_for_the_end_of_a_job_that_has_ended(entered):
    entered.end("a", "success", SUCCESS)
    began = time.monotonic()
    assert [event.stage for event in entered.events("a", wait_s=60)] == ["completed"]
    assert time.monotonic() - began < 30


def test_a_job_whose_events_are_gone_says_nothing_and_keeps_nobody_waiting(entered):
    entered.end("a", "success", SUCCESS)
    entered.backend.delete("events:a")
    began = time.monotonic()
    assert list(entered.events("a", wait_s=60)) == []
    assert time.monotonic() - began < 30


def test_a_job_ends_once(entered):
    assert entered.end("a", "success", SUCCESS)
    assert not entered.fail("a", DownloadFailed("too late"), at_stage="mux")
    status = entered.job("a")
    assert (status.state, status.stage, status.pct) == ("success", "completed", 100)
    assert status.result == SUCCESS
    assert told(entered) == [("completed", 100)]


def test_a_job_ends_once_even_if_many_end_it(entered):
    answers = race(lambda: entered.end("a", "success", SUCCESS))
    assert sorted(answers) == [False] * 7 + [True]
    assert told(entered) == [("completed", 100)]


def test_a_failed_job_keeps_its_error_and_its_percent(entered):
    report(entered, "downloads_started", 3)
    assert entered.fail("a", DownloadFailed("404"), at_stage="downloads_started")
    status = entered.job("a")
    assert (status.state, status.pct, status.details) == ("error", 3, {"code": "E_DOWNLOAD_FAILED", "message": "404"})
    error = status.result.error
    assert (error.code, error.message, error.at_stage) == ("E_DOWNLOAD_FAILED", "404", "downloads_started")
    assert told(entered)[-1] == ("error", 3)


def test_a_queued_job_can_be_cancelled(entered):
    assert entered.cancel("a", by="the caller")
    status = entered.job("a")
    assert status.state == "cancelled"
    assert status.result.error.code == "E_CANCELLED"
    assert status.result.error.message == "cancelled by the caller at queued"


def test_a_running_job_is_stopped_at_its_next_report(entered):
    report(entered, "generation_started", 20)
    entered.cancel("a", by="farm cancel")
    with pytest.raises(Cancelled):
        report(entered, "chunk_0_pre", 20)
    assert entered.job("a").result.error.at_stage == "generation_started"


def test_a_job_that_has_ended_cannot_be_cancelled(entered):
    entered.end("a", "success", SUCCESS)
    assert not entered.cancel("a", by="the caller")
    assert entered.job("a").state == "success"


@pytest.fixture
def dies_at(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Cancels the job `a` by somebody who dies when it is ended: just before, or right after."""

    def cancel(after: bool) -> None:
        swap = registry.backend.swap

        def last(*words: Any) -> None:
            if after:
                swap(*words)
            raise SystemExit

        with monkeypatch.context() as dying:
            dying.setattr(registry.backend, "swap", last)
            with pytest.raises(SystemExit):
                registry.jobs.cancel("a", by="the caller")

    return cancel


def test_a_job_stays_live_and_has_told_its_end_though_whoever_ended_it_died_at_once(entered, dies_at):
    dies_at(after=True)
    assert (entered.job("a").state, entered.live(), told(entered)) == ("cancelled", ["a"], [("cancelled", 0)])
    entered.close("a")
    assert entered.live() == []


def test_a_job_has_not_ended_if_whoever_would_end_it_died_before(entered, dies_at):
    dies_at(after=False)
    assert (entered.job("a").state, entered.live()) == ("queued", ["a"])


def test_an_unknown_job_cannot_be_cancelled(registry):
    with pytest.raises(InvalidInput, match="nobody"):
        registry.jobs.cancel("nobody", by="the caller")


# Steps


def test_the_message_for_a_product_is_one_callers_to_send(entered):
    assert sorted(race(lambda: entered.ring("a", "mux", window_s=60))) == [False] * 7 + [True]
    assert entered.rings("a", ["mux"]) == [1]


def test_a_message_may_be_sent_again_when_its_window_is_over(entered):
    assert entered.ring("a", "mux", window_s=SHORT_S)
    time.sleep(2 * SHORT_S)
    assert entered.ring("a", "mux", window_s=60)
    assert entered.rings("a", ["mux"]) == [2]


def test_a_message_that_led_to_a_lease_is_not_waited_for(entered):
    entered.ring("a", "mux", window_s=60)
    lease = take(entered)
    entered.give_back(lease, retry_after_s=0)
    assert entered.ring("a", "mux", window_s=60)


def test_a_message_is_waited_for_from_the_ring_to_the_lease(entered):
    assert entered.waiting(for_s=0) == []
    entered.ring("a", "mux", window_s=60)
    assert entered.waiting(for_s=60) == []
    assert entered.waiting(for_s=0) == [("a", "mux")]
    take(entered)
    assert entered.waiting(for_s=0) == []


def test_a_message_that_goes_back_into_its_queue_is_waited_for_again(entered):
    entered.ring("a", "mux", window_s=60)
    entered.hand_back(take(entered), window_s=60)
    assert entered.waiting(for_s=0) == [("a", "mux")]
    assert entered.attempts("a", "mux") == 0
    entered.lost("a", "mux")
    assert entered.ring("a", "mux", window_s=60)


def test_who_was_overtaken_has_no_message_to_hand_back(entered):
    lease = lose(entered)
    take(entered)
    assert not entered.hand_back(lease, window_s=60)
    assert entered.waiting(for_s=0) == []


def test_a_message_that_is_lost_may_be_sent_again_at_once(entered):
    entered.ring("a", "mux", window_s=60)
    entered.lost("a", "mux")
    assert entered.waiting(for_s=0) == []
    assert entered.ring("a", "mux", window_s=60)


def test_a_message_that_led_to_a_lease_after_all_is_not_lost(entered):
    entered.ring("a", "mux", window_s=60)
    entered.give_back(take(entered), retry_after_s=60)
    entered.lost("a", "mux")
    assert entered.idle() == []
    assert not entered.ring("a", "mux", window_s=60)


def test_a_message_of_a_job_that_is_forgotten_is_waited_for_no_more_once_it_is_missed(entered):
    entered.ring("a", "mux", window_s=60)
    entered.end("a", "success", SUCCESS)
    entered.forget("a", ["mux"])
    entered.lost("a", "mux")
    assert entered.waiting(for_s=0) == []
    assert not entered.knows("a")
    assert entered.rings("a", ["mux"]) == [0]


def test_each_product_has_a_message_of_its_own(entered):
    assert entered.ring("a", "generate-0000", window_s=60)
    assert entered.ring("a", "generate-0001", window_s=60)
    assert entered.rings("a", ["generate-0000", "mux"]) == [1, 0]


def test_no_message_is_sent_for_a_product_somebody_works_on(entered):
    take(entered)
    assert not entered.ring("a", "mux", window_s=60)


def test_no_message_is_sent_for_a_product_that_is_made(entered):
    entered.commit(take(entered), {"video": "key"})
    assert not entered.ring("a", "mux", window_s=60)


def test_a_lease_is_one_workers(entered):
    answers = race(lambda: entered.take("a", "mux", lease_s=60, max_attempts=3))
    leases = [lease for lease in answers if lease]
    assert [(lease.fence, lease.attempts) for lease in leases] == [(1, 1)]
    assert entered.at("a") == "mux"


def test_a_lease_that_ran_out_is_the_next_ones_under_a_higher_fence(entered):
    first = lose(entered)
    second = take(entered)
    assert (first.fence, second.fence, second.attempts) == (1, 2, 2)


def test_a_renewed_lease_does_not_run_out(entered):
    lease = take(entered, lease_s=SHORT_S)
    assert entered.renew(lease, lease_s=60)
    time.sleep(2 * SHORT_S)
    assert entered.take("a", "mux", lease_s=60, max_attempts=3) is None


def test_a_lease_that_is_anothers_cannot_be_renewed(entered):
    first = lose(entered)
    take(entered)
    assert not entered.renew(first, lease_s=60)


def test_goods_of_many_products_come_in_their_order(entered):
    entered.commit(take(entered, "generate-0001"), {"video": "second"})
    entered.commit(take(entered, "generate-0000"), {"video": "first"})
    take(entered, "generate-0002")
    names = [f"generate-000{chunk}" for chunk in range(4)]
    output = [{"video": "first"}, {"video": "second"}, None, None]
    assert entered.look("a", names) == (entered.job("a"), output)


def test_there_are_no_goods_of_no_products(entered):
    assert entered.look("a", []) == (entered.job("a"), [])


def test_who_looks_for_the_goods_of_an_unknown_job_is_told(registry):
    with pytest.raises(InvalidInput, match="job_id: got 'nobody'; there is no such job"):
        registry.snapshot("nobody", ["mux"])


def test_what_was_made_is_current(entered):
    assert entered.commit(take(entered), {"video": "key"})
    assert entered.id("a", "mux") == {"video": "key"}


def test_nothing_is_current_before_it_is_made(entered):
    take(entered)
    assert entered.id("a", "mux") is None


def test_a_slow_worker_may_still_hand_in_if_nobody_took_over(entered):
    assert entered.commit(lose(entered), {"video": "late"})


def test_the_loser_of_a_lease_cannot_hand_in(entered):
    slow = lose(entered)
    quick = take(entered)
    assert not entered.commit(slow, {"video": "slow"})
    assert entered.id("a", "mux") is None
    assert entered.commit(quick, {"video": "quick"})
    assert entered.id("a", "mux") == {"video": "quick"}


def test_what_is_made_is_not_made_again(entered):
    lease = take(entered)
    entered.commit(lease, {"video": "first"})
    assert entered.take("a", "mux", lease_s=60, max_attempts=3) is None
    assert not entered.commit(lease, {"video": "second"})
    assert entered.id("a", "mux") == {"video": "first"}


def test_a_lease_does_not_bring_back_a_job_that_the_broker_has_lost(registry):
    take(registry)
    assert not registry.jobs.exists("a")


def test_a_product_that_is_remembered_is_current(entered):
    entered.remember("a", "mux", fence=2, output={"video": "key"})
    assert entered.id("a", "mux") == {"video": "key"}
    assert entered.take("a", "mux", lease_s=60, max_attempts=3) is None


def test_remembering_takes_no_goods_away(entered):
    entered.commit(take(entered), {"video": "first"})
    entered.remember("a", "mux", fence=2, output={"video": "second"})
    entered.remember("a", "mux", fence=3)
    assert entered.id("a", "mux") == {"video": "first"}


def test_a_worker_of_before_cannot_hand_in_once_its_product_is_fenced_off(entered):
    before = take(entered)
    entered.remember("a", "mux", fence=1000)
    after = take(entered)
    assert (after.fence, after.attempts) == (1001, 1)
    assert not entered.commit(before, {"video": "late"})
    assert entered.commit(after, {"video": "key"})


def test_a_lease_given_back_can_be_taken_at_once_but_is_rung_for_after_its_pause(entered):
    lease = take(entered)
    assert entered.give_back(lease, retry_after_s=SHORT_S)
    assert not entered.ring("a", "mux", window_s=60)
    time.sleep(2 * SHORT_S)
    assert entered.ring("a", "mux", window_s=60)
    assert take(entered).attempts == 2


def test_an_attempt_that_was_broken_off_does_not_count_but_has_a_fence_of_its_own(entered):
    broken_off = take(entered)
    entered.give_back(broken_off, retry_after_s=0, counted=False)
    again = take(entered)
    assert (again.attempts, again.fence) == (1, broken_off.fence + 1)


def test_the_loser_of_a_lease_cannot_give_it_back(entered):
    slow = lose(entered)
    take(entered)
    assert not entered.give_back(slow, retry_after_s=0)
    assert entered.take("a", "mux", lease_s=60, max_attempts=3) is None


def test_a_product_that_ends_worker_after_worker_is_given_up(entered):
    for _ in range(2):
        lose(entered, max_attempts=2)
    with pytest.raises(WorkerLost, match="mux: 2 workers died on it"):
        entered.take("a", "mux", lease_s=60, max_attempts=2)


def test_the_attempts_at_one_product_do_not_count_for_another(entered):
    lose(entered, "download")
    assert take(entered, "embed").attempts == 1


def test_the_wait_for_a_worker_is_measured(entered):
    entered.ring("a", "mux", window_s=60)
    time.sleep(0.1)
    take(entered)
    assert 0.09 < entered.waited_s("a", "mux") < 2


def test_nobody_waited_for_a_product_that_was_never_rung_for(entered):
    take(entered)
    assert entered.waited_s("a", "mux") == 0


def test_many_changes_at_once_are_all_kept(entered):
    numbers = iter(range(8))
    race(lambda: report(entered, f"stage {next(numbers)}", 1))
    entered.end("a", "success", SUCCESS)
    assert len(told(entered)) == 9


# Addresses


@pytest.mark.parametrize("url", ["", "amqp://guest:secret@host", "http://host", "memory", "redis://:secret#x@h"])
def test_an_address_of_another_kind_is_refused_without_its_secrets(url):
    with pytest.raises(InvalidInput, match="FARM_BROKER_URL") as caught:
        open_registry(url)
    assert "secret" not in str(caught.value.describe(at_stage=""))


def test_a_broker_that_does_not_answer_is_named_without_its_password():
    registry = open_registry("redis://:secret@127.0.0.1:1/0")
    with pytest.raises(FarmUnreachable, match=r"no broker answers at 127\.0\.0\.1:1") as caught:
        registry.jobs.status("a")
    assert "secret" not in caught.value.message


def test_a_connection_that_was_dropped_is_made_again(broker):
    registry = open_registry(broker)
    registry.jobs.add("a", REQUEST)
    with redis.Redis.from_url(broker) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert registry.jobs.status("a").state == "queued"


@pytest.mark.parametrize("setting", ["maxmemory", "min-replicas-to-write"])
def test_a_broker_that_takes_nothing_is_named(broker, setting):
    registry = open_registry(broker)
    with redis.Redis.from_url(broker) as client:
        client.config_set(setting, 1)
        try:
            with pytest.raises(FarmUnreachable, match=r"the broker at 127\.0\.0\.1:\d+ takes nothing just now"):
                registry.jobs.add("a", REQUEST)
        finally:
            client.config_set(setting, 0)
    assert registry.jobs.add("a", REQUEST)


def test_a_broker_that_refuses_is_named_and_not_asked_again(broker):
    with redis.Redis.from_url(broker) as client:
        client.acl_setuser("guest", enabled=True, passwords=["+secret"], categories=["+@all"], commands=["-mget"])
        try:
            with pytest.raises(FarmUnreachable, match=r"the broker at 127\.0\.0\.1:\d+ refuses \(.*mget") as caught:
                open_registry(f"redis://guest:secret@{broker.rpartition('@')[2]}").job("a")
        finally:
            client.acl_deluser("guest")
    assert not caught.value.retryable
    assert "secret" not in caught.value.message


def test_a_broker_that_has_lost_its_scripts_is_given_them_again(broker):
    registry = open_registry(broker)
    registry.jobs.add("a", REQUEST)
    with redis.Redis.from_url(broker) as client:
        client.script_flush()
    assert registry.jobs.add("b", REQUEST)


def test_two_clients_of_one_broker_see_the_same_book(broker):
    open_registry(broker).add("a", REQUEST)
    assert open_registry(broker).job("a").state == "queued"


def test_two_registries_in_memory_share_nothing():
    open_registry("memory://").add("a", REQUEST)
    assert list(open_registry("memory://").jobs()) == []


def count(registry: Registry, call: Callable[[], Any]) -> int:
    """How many requests for records a broker gets in a call."""

    def asked() -> int:
        calls = registry.backend.redis.info("commandstats")
        return sum(calls.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "mget"))

    before = asked()
    call()
    return asked() - before


def test_what_a_process_did_last_it_changes_in_one_request(broker):
    registry = open_registry(broker)
    registry.jobs.add("a", REQUEST)
    report(registry, "validation_started", 0)
    lease = take(registry)
    assert count(registry, lambda: report(registry, "validation_ok", 2)) == 1
    assert count(registry, lambda: registry.steps.commit(lease, {})) == 1
    assert count(registry, lambda: registry.jobs.end("a", "success", SUCCESS)) == 1


def test_who_was_mistaken_about_what_another_did_is_put_right(broker):
    ours, theirs = open_registry(broker), open_registry(broker)
    ours.add("a", REQUEST)
    report(ours, "validation_started", 0)
    report(theirs, "embeddings_ok", 15)
    report(ours, "validation_ok", 2)
    ours.end("a", "success", SUCCESS)
    assert [pct for _, pct in told(theirs)] == [0, 15, 15, 100]


def test_nothing_is_refused_for_what_was_seen_before(broker):
    ours, theirs = open_registry(broker), open_registry(broker)
    ours.add("a", REQUEST)
    lease = take(ours, max_attempts=1)
    theirs.give_back(lease, retry_after_s=0, counted=False)
    again = take(ours, max_attempts=1)
    assert (again.fence, again.attempts) == (2, 1)


def test_a_process_keeps_no_more_than_it_needs_in_mind(registry):
    for number in range(3 * CACHE_SIZE):
        registry.jobs.add(f"job {number}", REQUEST)
        registry.steps.claim_dispatch(f"job {number}", "mux", window_s=60)
        registry.snapshot(f"job {number}", ["mux"])
    assert len(registry._seen) < 2 * CACHE_SIZE


def test_a_broker_that_comes_back_is_found_again(broker):
    registry = open_registry(broker)
    registry.jobs.add("a", REQUEST)
    with redis.Redis.from_url(broker) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert registry.jobs.status("a").state == "queued"


# The clock


def times_asked(broker: str) -> int:
    """How often a broker was asked what time it is."""
    with redis.Redis.from_url(broker) as client:
        return client.info("commandstats").get("cmdstat_time", {"calls": 0})["calls"]


def test_the_clock_is_the_brokers(broker):
    backend = open_registry(broker).backend
    backend.now()
    time.sleep(0.4)
    with redis.Redis.from_url(broker) as client:
        seconds, microseconds = client.time()
    assert backend.now() == pytest.approx(seconds + microseconds / 1e6, abs=0.2)


def test_the_broker_is_not_asked_for_the_time_at_every_look(broker):
    backend, before = open_registry(broker).backend, times_asked(broker)
    assert backend.now() < backend.now() < backend.now()
    assert times_asked(broker) == before + 1


def test_the_broker_is_asked_again_lest_the_clocks_part(broker, monkeypatch):
    monkeypatch.setattr("farm.registry.redis.CLOCK_S", SHORT_S)
    backend, before = open_registry(broker).backend, times_asked(broker)
    backend.now()
    time.sleep(2 * SHORT_S)
    backend.now()
    assert times_asked(broker) == before + 2
