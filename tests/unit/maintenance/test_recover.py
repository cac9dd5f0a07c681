"""Everything is lost but the store: which jobs are entered again, and where they resume."""

from __future__ import annotations

import time
from dataclasses import replace
from math import inf

import pytest

from farm.caller import LOCAL
from farm.client import Farm, Job
from farm.engine import journal
from farm.engine.advance import claim_due_step
from farm.engine.context import Context
from farm.errors import DownloadFailed, QuotaExceeded
from farm.job import TimeLimits
from farm.maintenance.recover import Recovered
from farm.registry import Registry, open_registry
from farm.registry.accounts import NO_DEMAND, Quota
from farm.registry.attempt_id import fence_of
from farm.registry.formats import dump
from farm.registry.keys import DEADLINES
from farm.route import DOWNLOAD, MUX, Step
from farm.settings import Settings
from farm.store import integrity, keys, open_store
from tests.support.attempts import FIRST, attempt
from tests.support.backends import Countdown, Interrupted
from tests.support.formats import text_of
from tests.support.jobs import REQUEST, job_request
from tests.support.outputs import mux_output
from tests.support.recovery import (
    enter,
    lose_broker,
    recover_all,
    recover_one,
    store_chunks,
    store_output,
    store_video,
)
from tests.support.steps import acquire, commit, run_step

# What is entered again


def test_an_empty_store_has_no_jobs(ctx):
    assert recover_all(ctx) == []


def test_a_job_that_was_only_submitted_begins(entered):
    lost = lose_broker(entered)
    assert recover_one(lost) == Recovered("a", "resumed", "download", kept=0, step=DOWNLOAD)
    assert (lost.registry.jobs.request("a"), lost.registry.jobs.live()) == (REQUEST, ["a"])


def test_a_job_keeps_the_time_of_its_submission(entered):
    submitted_at = journal.read_request(entered.store, "a").submitted_at
    assert time.time() - 60 < submitted_at <= entered.registry.jobs.status("a").created_at
    lost = lose_broker(entered)
    recover_one(lost)
    assert lost.registry.jobs.status("a").created_at == submitted_at


def test_a_job_keeps_its_time_limits(ctx):
    limits = TimeLimits(ttl_s=60)
    journal.record_request(ctx, "a", REQUEST, limits=limits)
    recover_all(ctx)
    assert ctx.registry.deadlines.limits("a") == limits
    assert ctx.registry.backend.members_below(DEADLINES, inf) == ["a"]


def test_a_job_resumes_behind_its_last_complete_chunk(entered):
    store_chunks(entered, 1)
    lost = lose_broker(entered)
    resumed = Recovered("a", "resumed", "generate-0002", kept=4, step=Step("generate", 2))
    assert recover_one(lost) == resumed
    assert lost.registry.steps.committed("a", "generate-0001").attempt_id == attempt(1)
    assert lost.registry.steps.committed("a", "generate-0002") is None


def test_a_job_that_lacks_only_its_video_resumes_with_mux(entered):
    store_chunks(entered, 2)
    assert recover_one(lose_broker(entered)).step == MUX


def test_an_incomplete_attempt_counts_for_nothing(entered):
    store_chunks(entered, 0)
    entered.store.put(keys.attempt("a", "generate-0001", attempt(1), "segment.m4s"), b"half of it")
    assert recover_one(lose_broker(entered)).step == Step("generate", 1)


def test_a_job_whose_video_is_complete_ends_with_it(entered):
    store_chunks(entered, 0, chunks=1)
    store_video(entered)
    lost = lose_broker(entered)
    assert recover_one(lost) == Recovered("a", "already_ended", "success", kept=4)
    assert (lost.registry.jobs.status("a").state, lost.registry.jobs.live()) == ("success", [])
    assert journal.read_end(lost.store, "a") == lost.registry.jobs.status("a")


def test_a_cancelled_job_stays_cancelled(entered):
    store_chunks(entered, 1)
    Job(entered, "a").cancel()
    before = entered.registry.jobs.status("a")
    lost = lose_broker(entered)
    assert recover_one(lost) == Recovered("a", "already_ended", "cancelled", kept=4)
    assert lost.registry.jobs.status("a") == before
    assert (lost.registry.jobs.live(), claim_due_step(lost, "a")) == ([], None)


def test_a_job_that_was_cancelled_while_its_video_was_stored_has_no_video(entered):
    store_chunks(entered, 2)
    entered.store.put(keys.attempt("a", "mux", attempt(1), "video.mp4"), b"the video")
    Job(entered, "a").cancel()
    lost = lose_broker(entered)
    assert recover_one(lost) == Recovered("a", "already_ended", "cancelled", kept=5)
    assert lost.registry.steps.committed("a", "mux") is None


def test_a_failed_job_stays_failed(entered):
    entered.registry.jobs.fail("a", DownloadFailed("404"), at_stage="downloads_started")
    journal.close_job(entered, "a")
    before = entered.registry.jobs.status("a")
    lost = lose_broker(entered)
    assert recover_one(lost) == Recovered("a", "already_ended", "error")
    assert lost.registry.jobs.status("a") == before


def test_a_job_that_has_not_ended_is_not_closed(entered):
    journal.close_job(entered, "a")
    assert journal.read_end(entered.store, "a") is None
    assert entered.registry.jobs.live() == ["a"]


def test_closing_a_job_that_the_broker_has_lost_stores_nothing(ctx):
    journal.close_job(ctx, "a")
    assert list(ctx.store.keys("")) == []


def test_the_video_of_a_finished_job_can_be_saved(entered, tmp_path):
    video_key = keys.attempt("a", "mux", FIRST, "video.mp4")
    entered.store.put(video_key, b"the video")
    store_output(
        entered,
        "mux",
        inputs={"generate-0000": 1},
        output=mux_output(video_key=video_key),
        digests={video_key: keys.digest(b"the video")},
    )
    stored = journal.read_output(entered.store, "a", keys.AttemptKey("mux", FIRST))
    entered.registry.steps.restore("a", "mux", attempt_id=FIRST, committed=stored)
    run_step(entered, "a", MUX)
    lost = lose_broker(entered)
    assert recover_one(lost) == Recovered("a", "already_ended", "success", kept=1)
    assert Job(lost, "a").save(tmp_path / "saved.mp4").read_bytes() == b"the video"


def test_a_finished_job_keeps_its_video_though_what_it_was_made_from_is_gone(entered):
    store_chunks(entered, 0, chunks=1)
    store_video(entered)
    recover_one(lose_broker(entered))
    entered.store.delete(keys.attempt("a", "generate-0000", attempt(1), keys.OUTPUT))
    lost = lose_broker(entered)
    assert recover_one(lost) == Recovered("a", "already_ended", "success", kept=3)
    assert lost.registry.steps.committed("a", "mux").output.video_key == "jobs/a/video.mp4"


def test_superseded_attempts_of_a_finished_job_are_known_as_such(entered):
    store_chunks(entered, 0, chunks=1)
    store_output(entered, "generate-0000", 2, inputs={"embed": 1})
    store_video(entered, chunk_attempt=2)
    recover_one(lose_broker(entered))
    lost = lose_broker(entered)
    assert recover_one(lost).outcome == "already_ended"
    superseded = lost.registry.steps.is_superseded
    found = [superseded("a", "generate-0000", attempt(number)) for number in (1, 2)]
    assert found == [True, False]


def test_an_idempotency_key_leads_to_its_job_again(ctx):
    request = job_request(idempotency_key="order 66")
    enter(ctx, "a", request)
    lost = lose_broker(ctx)
    recover_one(lost)
    assert lost.registry.entries.first_job(request, LOCAL) == "a"


def test_a_job_belongs_to_its_caller_again(ctx):
    request = job_request(idempotency_key="order 66")
    enter(ctx, "a", request, caller="anna")
    lost = lose_broker(ctx)
    recover_one(lost)
    assert lost.registry.jobs.status("a").caller == "anna"
    assert [status.job_id for status in lost.registry.jobs.newest("anna")] == ["a"]
    assert lost.registry.entries.first_job(request, "anna") == "a"
    with pytest.raises(QuotaExceeded):
        lost.registry.entries.check_quota("anna", NO_DEMAND, Quota(live_jobs=1))


def test_an_ended_job_belongs_to_its_caller_again(ctx):
    enter(ctx, "a", caller="anna")
    Job(ctx, "a").cancel()
    lost = lose_broker(ctx)
    assert recover_one(lost).outcome == "already_ended"
    assert lost.registry.jobs.status("a").caller == "anna"
    lost.registry.entries.check_quota("anna", NO_DEMAND, Quota(live_jobs=1))


def test_jobs_are_recovered_one_by_one(ctx):
    for job_id in ("a", "ab", "b"):
        enter(ctx, job_id)
    store_chunks(ctx, 0)
    found = recover_all(lose_broker(ctx))
    assert [(each.job_id, each.reason) for each in found] == [
        ("a", "generate-0001"),
        ("ab", "download"),
        ("b", "download"),
    ]


# Unreadable


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"request": {}, "submitted_at": 1}',
        text_of({"request": {}, "submitted_at": 1}).encode(),
        dump(journal.Submission(caller="local", request=REQUEST, submitted_at=1))
        .replace("1", "2", 1)
        .encode(),
    ],
)
def test_an_unreadable_request_is_named_and_left_alone(entered, content):
    enter(entered, "b")
    integrity.put_sealed(entered.store, keys.request("a"), content)
    lost = lose_broker(entered)
    first, second = recover_all(lost)
    assert (first.outcome, second.outcome) == ("unreadable", "resumed")
    assert first.reason
    assert not lost.registry.jobs.exists("a")


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "it is not JSON"),
        (text_of({"chunks": 3}), "output: it is missing"),
        (text_of({"output": {"step": "mux"}}), "output.mux.result: it is missing"),
        (text_of({}, format=2), "is in format 2"),
    ],
    ids=["no JSON", "untyped", "without its fields", "a newer format"],
)
def test_a_job_with_an_unreadable_output_is_named_and_left_alone(entered, content, reason, ended):
    enter(entered, "b")
    store_chunks(entered, 0, chunks=1)
    store_video(entered)
    key = keys.attempt("a", "mux", attempt(1), keys.OUTPUT)
    integrity.put_sealed(entered.store, key, content.encode())
    if ended:
        Job(entered, "a").cancel()
    lost = lose_broker(entered)
    first, second = recover_all(lost)
    assert (first.outcome, second.outcome) == ("unreadable", "resumed")
    assert first.reason.startswith(f"{key} ")
    assert reason in first.reason
    assert not lost.registry.jobs.exists("a")


def test_a_chunk_that_does_not_name_its_embeddings_makes_its_job_unreadable(entered):
    store_output(entered, "generate-0000")
    found = recover_one(lose_broker(entered))
    assert found.outcome == "unreadable"
    assert (
        found.reason
        == "LookupError: what follows generate-0000 is unknown without the number of chunks"
    )


def test_outputs_without_a_request_are_left_alone(ctx):
    store_chunks(ctx, 1)
    assert recover_one(ctx).outcome == "unreadable"
    assert ctx.registry.jobs.live() == []


# Which attempt counts


def test_of_two_complete_attempts_the_later_one_counts(entered):
    store_chunks(entered, 0)
    store_output(entered, "generate-0000", 2, inputs={"embed": 1})
    lost = lose_broker(entered)
    recover_one(lost)
    assert lost.registry.steps.committed("a", "generate-0000").attempt_id == attempt(2)


def test_attempts_are_ordered_by_number_and_not_by_letter(entered):
    store_chunks(entered, 0)
    for number in (9999, 10000):
        store_output(entered, "generate-0000", number, inputs={"embed": 1})
    lost = lose_broker(entered)
    recover_one(lost)
    assert lost.registry.steps.committed("a", "generate-0000").attempt_id == attempt(10000)


def test_the_attempt_from_which_the_next_chunk_was_generated_counts(entered):
    store_chunks(entered, 1)
    store_output(entered, "generate-0000", 2, inputs={"embed": 1})
    lost = lose_broker(entered)
    assert recover_one(lost).step == Step("generate", 2)
    assert lost.registry.steps.committed("a", "generate-0000").attempt_id == attempt(1)


def test_a_chunk_of_which_an_input_is_gone_is_generated_again(entered):
    store_chunks(entered, 1)
    store_output(entered, "generate-0002", inputs={"embed": 1, "generate-0001": 2})
    lost = lose_broker(entered)
    assert recover_one(lost).step == Step("generate", 2)
    assert lost.registry.steps.committed("a", "generate-0002") is None


def test_a_job_without_its_first_output_begins_anew(entered):
    store_chunks(entered, 2)
    entered.store.delete(keys.attempt("a", "download", attempt(1), keys.OUTPUT))
    assert recover_one(lose_broker(entered)) == Recovered("a", "resumed", "download", step=DOWNLOAD)


@pytest.mark.parametrize("step_id", ["generate-0001", "generate-0002"])
def test_a_step_that_is_run_again_stores_under_keys_of_no_earlier_attempt(entered, step_id):
    # Given an attempt of a worker that may still be running
    store_chunks(entered, 0)
    entered.store.put(keys.attempt("a", "generate-0002", attempt(2), "segment.m4s"), b"half of it")
    before = acquire(entered.registry, step_id)
    lost = lose_broker(entered)
    recover_one(lost)
    after = acquire(lost.registry, step_id)
    assert fence_of(after.attempt_id) > 1_000_000_000_000
    assert not commit(lost.registry, before)


# What is damaged


@pytest.mark.parametrize("step_id", ["generate-0001", "generate-0000"])
def test_a_damaged_output_counts_for_nothing(entered, step_id):
    store_chunks(entered, 1)
    damage(entered, keys.attempt("a", step_id, FIRST, keys.OUTPUT))
    assert recover_one(lose_broker(entered)).step == Step.parse(step_id)


@pytest.mark.parametrize("key", [keys.request("a"), keys.end("a")])
def test_a_job_with_a_damaged_record_is_named_and_left_alone(entered, key):
    Job(entered, "a").cancel()
    damage(entered, key)
    lost = lose_broker(entered)
    found = recover_one(lost)
    assert (found.outcome, found.reason.startswith(f"{key} is corrupt")) == (
        "unreadable",
        True,
    )
    assert not lost.registry.jobs.exists("a")


def damage(ctx: Context, key: str) -> None:
    content = ctx.store.get(key)
    ctx.store.put(key, content.replace(b"a", b"b"))


# At any time, any number of times


def test_known_jobs_are_left_as_they_are(entered):
    entered.store.put(keys.attempt("a", "download", FIRST, "image.png"), b"half of it")
    acquire(entered.registry, "download", lease_s=0)
    assert recover_one(entered) == Recovered("a", "known")
    assert entered.registry.steps.claim_dispatch("a", DOWNLOAD.id), "it was dispatched"


def test_a_second_recovery_changes_nothing(entered):
    store_chunks(entered, 0)
    lost = lose_broker(entered)
    recover_one(lost)
    texts = dict(lost.registry.backend.texts)
    assert recover_one(lost) == Recovered("a", "known")
    assert lost.registry.backend.texts == texts


def test_a_second_recovery_does_not_disturb_a_worker_that_began_after_the_first(entered):
    store_chunks(entered, 0)
    lost = lose_broker(entered)
    recover_one(lost)
    lease = acquire(lost.registry, "generate-0001")
    recover_one(lost)
    assert commit(lost.registry, lease)


@pytest.mark.parametrize("ended", [False, True])
def test_an_interrupted_recovery_can_be_repeated(tmp_path, ended):
    store = open_store("memory://")
    ctx = Context(Settings(home=tmp_path), store, open_registry("memory://"))
    enter(ctx, "a", job_request(idempotency_key="order 66"))
    store_chunks(ctx, 0)
    if ended:
        Job(ctx, "a").cancel()
    for writes in range(20):
        countdown = Countdown(writes)
        lost = lose_broker(ctx)
        backend = Interrupted(lost.registry.backend, countdown, "swap")
        try:
            recover_one(replace(ctx, registry=Registry(backend)))
        except KeyboardInterrupt:
            recover_one(lost)
        assert lost.registry.jobs.status("a").state == ("cancelled" if ended else "queued")
        assert lost.registry.jobs.live() == ([] if ended else ["a"])
        assert [status.job_id for status in lost.registry.jobs.newest()] == ["a"]
        if not ended:
            assert lost.registry.steps.committed("a", "generate-0000")
            assert lost.registry.steps.current_step_id("a") == "generate-0000"
    assert 0 <= countdown.left < writes, "the last recovery was not interrupted"


# The client


def test_the_client_sends_the_steps_of_recovered_jobs(tmp_path, broker):
    farm = Farm(broker, settings=Settings(home=tmp_path))
    job = farm.submit(REQUEST)
    registry = farm.context.registry
    with registry.backend.redis as client:
        client.flushall()
    (found,) = farm.recover()
    assert (found.job_id, found.reason) == (job.id, "download")
    assert registry.steps.record(job.id, "download").dispatches == 1
    with registry.backend.redis as client:
        queues = client.scan_iter("farm:downloads*", _type="list")
        assert sum(client.llen(queue) for queue in queues) == 1
