"""Everything lost but the store: what of each job is entered again, and where it goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from farm.client import Farm, Job
from farm.engine import journal
from farm.engine.advance import claim_due_step
from tests.support.steps import run_step
from farm.engine.context import Context
from farm.route import FIRST, LAST, Step
from farm.errors import DownloadFailed
from farm.job import JobRequest
from farm.maintenance.recover import Recovered, recover
from farm.registry import Registry, open_registry
from farm.settings import Settings
from farm.steps.generate import warm_pipeline
from farm.store import Store, keys, open_store
from tests.support.tiny_model import chosen

REQUEST = JobRequest(
    prompt="x", cond_video="https://example.org/face.png", cond_audio={"person1": "https://example.org/voice.wav"}
)
RESULT = {"job_id": "a", "status": "success"}


@pytest.fixture
def ctx(store: Store, tmp_path: Path) -> Context:
    return Context(Settings(home=tmp_path), store, open_registry("memory://"))


@pytest.fixture
def entered(ctx: Context) -> Context:
    """A place with the job `a`."""
    enter(ctx, "a")
    return ctx


def enter(ctx: Context, job_id: str, request: JobRequest = REQUEST) -> None:
    journal.enter(ctx, job_id, request)
    ctx.registry.jobs.add(job_id, request)


def leave(ctx: Context, step_id: str, number: int, inputs: dict[str, int] | None = None, **output: Any) -> None:
    """Leaves in the store what a complete attempt at a product of `a` leaves."""
    whole = {"attempt": number, "made_of": inputs or {}, "timings": {}, **output}
    ctx.store.put(keys.attempt("a", step_id, number, "goods"), b"goods")
    ctx.store.put(keys.attempt("a", step_id, number, keys.OUTPUT), json.dumps(whole).encode())


def leave_chunks(ctx: Context, last: int, *, chunks: int = 3) -> None:
    """Leaves download, embed and the chunks up to the last one, each made by the first attempt at it."""
    leave(ctx, "download", 1)
    leave(ctx, "embed", 1, {"download": 1}, chunks=chunks)
    for chunk in range(last + 1):
        before = {f"generate-{chunk - 1:04d}": 1} if chunk else {}
        links = {"init": "init.mp4", "segment": "segment.m4s"}
        leave(ctx, f"generate-{chunk:04d}", 1, {"embed": 1, **before}, links=links, frames=81)


def lose(ctx: Context) -> Context:
    """The same place after its broker has lost everything."""
    return Context(ctx.settings, ctx.store, open_registry("memory://"))


def recovered(ctx: Context) -> list[Recovered]:
    return [recover(ctx, job_id, names) for job_id, names in journal.jobs(ctx.store)]


def one(ctx: Context) -> Recovered:
    (only,) = recovered(ctx)
    return only


# What is entered again


def test_an_empty_store_has_no_jobs(ctx):
    assert recovered(ctx) == []


def test_a_job_that_was_only_entered_begins(entered):
    lost = lose(entered)
    assert one(lost) == Recovered("a", "goes on", "download", kept=0, step=FIRST)
    assert (lost.registry.jobs.request("a"), lost.registry.jobs.live()) == (REQUEST, ["a"])


def test_a_job_keeps_the_time_of_its_entry(entered):
    _, entered_at = journal.entry(entered.store, "a")
    assert time.time() - 60 < entered_at <= entered.registry.jobs.status("a").created_at
    lost = lose(entered)
    one(lost)
    assert lost.registry.jobs.status("a").created_at == entered_at


def test_a_job_goes_on_behind_its_last_finished_chunk(entered):
    leave_chunks(entered, 1)
    lost = lose(entered)
    assert one(lost) == Recovered("a", "goes on", "generate-0002", kept=4, step=Step("generate", 2))
    assert lost.registry.steps.committed("a", "generate-0001")["attempt"] == 1
    assert lost.registry.steps.committed("a", "generate-0002") is None


def test_a_job_goes_on_where_only_the_video_is_missing(entered):
    leave_chunks(entered, 2)
    assert one(lose(entered)).step == LAST


def test_an_attempt_that_did_not_come_to_its_end_counts_for_nothing(entered):
    leave_chunks(entered, 0)
    entered.store.put(keys.attempt("a", "generate-0001", 1, "segment.m4s"), b"half of it")
    assert one(lose(entered)).step == Step("generate", 1)


def test_a_job_whose_video_is_made_ends_as_if_it_had_been_told(entered):
    leave_chunks(entered, 0, chunks=1)
    leave(entered, "mux", 1, {"embed": 1, "generate-0000": 1}, result=RESULT, video="jobs/a/video.mp4")
    lost = lose(entered)
    assert one(lost) == Recovered("a", "had ended", "success", kept=4)
    assert (lost.registry.jobs.status("a").state, lost.registry.jobs.live()) == ("success", [])
    assert journal.end(lost.store, "a") == lost.registry.jobs.status("a")


def test_a_cancelled_job_stays_cancelled(entered):
    leave_chunks(entered, 1)
    Job(entered, "a").cancel()
    before = entered.registry.jobs.status("a")
    lost = lose(entered)
    assert one(lost) == Recovered("a", "had ended", "cancelled", kept=4)
    assert (lost.registry.jobs.status("a"), lost.registry.jobs.live(), claim_due_step(lost, "a")) == (before, [], None)


def test_a_job_that_was_cancelled_while_its_video_was_laid_down_has_none(entered):
    leave_chunks(entered, 2)
    entered.store.put(keys.attempt("a", "mux", 1, "video.mp4"), b"the video")
    Job(entered, "a").cancel()
    lost = lose(entered)
    assert one(lost) == Recovered("a", "had ended", "cancelled", kept=5)
    assert lost.registry.steps.committed("a", "mux") is None


def test_a_failed_job_stays_failed(entered):
    entered.registry.jobs.fail("a", DownloadFailed("404"), at_stage="downloads_started")
    journal.close(entered, "a")
    before = entered.registry.jobs.status("a")
    lost = lose(entered)
    assert one(lost) == Recovered("a", "had ended", "error")
    assert lost.registry.jobs.status("a") == before


def test_a_job_that_goes_on_is_not_closed(entered):
    journal.close(entered, "a")
    assert (journal.end(entered.store, "a"), entered.registry.jobs.live()) == (None, ["a"])


def test_the_end_of_a_job_that_the_broker_has_lost_is_nothing_to_write_down(ctx):
    journal.close(ctx, "a")
    assert list(ctx.store.keys("")) == []


def test_a_finished_job_hands_out_its_video(entered, tmp_path):
    entered.store.put("jobs/a/mux/0001/video.mp4", b"the video")
    leave(entered, "mux", 1, {"generate-0000": 1}, result=RESULT, video="jobs/a/mux/0001/video.mp4")
    entered.registry.steps.restore(
        "a", "mux", fence=1, output=journal.output(entered.store, "a", keys.Attempt("mux", 1))
    )
    run_step(entered, "a", LAST)
    lost = lose(entered)
    assert one(lost) == Recovered("a", "had ended", "success", kept=1)
    assert Job(lost, "a").save(tmp_path / "saved.mp4").read_bytes() == b"the video"


def test_a_finished_job_whose_video_alone_is_left_hands_it_out(entered):
    leave_chunks(entered, 0, chunks=1)
    leave(entered, "mux", 1, {"embed": 1, "generate-0000": 1}, result=RESULT, video="jobs/a/video.mp4")
    one(lose(entered))
    entered.store.delete(keys.attempt("a", "generate-0000", 1, keys.OUTPUT))
    lost = lose(entered)
    assert one(lost) == Recovered("a", "had ended", "success", kept=3)
    assert lost.registry.steps.committed("a", "mux")["video"] == "jobs/a/video.mp4"


def test_overtaken_attempts_at_a_finished_job_are_known_as_such(entered):
    leave_chunks(entered, 0, chunks=1)
    leave(entered, "generate-0000", 2, {"embed": 1}, links={"init": "i", "segment": "s"}, frames=81)
    leave(entered, "mux", 1, {"embed": 1, "generate-0000": 2}, result=RESULT, video="jobs/a/video.mp4")
    one(lose(entered))
    lost = lose(entered)
    assert one(lost).outcome == "had ended"
    assert [number for number in (1, 2) if lost.registry.steps.is_superseded("a", "generate-0000", number)] == [1]


def test_an_idempotency_key_leads_to_its_job_again(ctx):
    enter(ctx, "a", REQUEST.model_copy(update={"idempotency_key": "order 66"}))
    lost = lose(ctx)
    one(lost)
    assert lost.registry.jobs.claim_idempotency_key("order 66", "b") == "a"


def test_each_job_is_recovered_by_itself(ctx):
    for job_id in ("a", "ab", "b"):
        enter(ctx, job_id)
    leave_chunks(ctx, 0)
    assert [(each.job_id, each.reason) for each in recovered(lose(ctx))] == [
        ("a", "generate-0001"),
        ("ab", "download"),
        ("b", "download"),
    ]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"request": {}, "entered_at": 1}', REQUEST.model_dump_json().encode()]
)
def test_a_request_that_cannot_be_read_is_named_and_left_alone(entered, content):
    enter(entered, "b")
    entered.store.put(keys.request("a"), content)
    lost = lose(entered)
    first, second = recovered(lost)
    assert (first.outcome, second.outcome) == ("unreadable", "goes on")
    assert first.reason
    assert not lost.registry.jobs.exists("a")


def test_goods_without_a_request_are_left_alone(ctx):
    leave_chunks(ctx, 1)
    assert one(ctx).outcome == "unreadable"
    assert ctx.registry.jobs.live() == []


# Which attempt counts


def test_of_two_complete_attempts_the_later_one_is_current(entered):
    leave_chunks(entered, 0)
    leave(entered, "generate-0000", 2, {"embed": 1})
    lost = lose(entered)
    one(lost)
    assert lost.registry.steps.committed("a", "generate-0000")["attempt"] == 2


def test_attempts_are_told_apart_by_number_and_not_by_letter(entered):
    leave_chunks(entered, 0)
    for number in (9999, 10000):
        leave(entered, "generate-0000", number, {"embed": 1})
    lost = lose(entered)
    one(lost)
    assert lost.registry.steps.committed("a", "generate-0000")["attempt"] == 10000


def test_the_attempt_that_the_next_chunk_was_made_of_is_current(entered):
    leave_chunks(entered, 1)
    leave(entered, "generate-0000", 2, {"embed": 1})
    lost = lose(entered)
    assert one(lost).step == Step("generate", 2)
    assert lost.registry.steps.committed("a", "generate-0000")["attempt"] == 1


def test_a_chunk_of_whose_sources_one_is_gone_is_made_again(entered):
    leave_chunks(entered, 1)
    leave(entered, "generate-0002", 1, {"embed": 1, "generate-0001": 2})
    lost = lose(entered)
    assert one(lost).step == Step("generate", 2)
    assert lost.registry.steps.committed("a", "generate-0002") is None


def test_a_job_without_its_first_product_begins_anew(entered):
    leave_chunks(entered, 2)
    entered.store.delete(keys.attempt("a", "download", 1, keys.OUTPUT))
    assert one(lose(entered)) == Recovered("a", "goes on", "download", step=FIRST)


@pytest.mark.parametrize("product", ["generate-0001", "generate-0002"])
def test_what_is_made_again_is_made_under_keys_that_no_attempt_has_had(entered, step_id):
    leave_chunks(entered, 0)
    entered.store.put(keys.attempt("a", "generate-0002", 2, "segment.m4s"), b"of a worker that may still be at it")
    before = entered.registry.steps.acquire("a", step_id, lease_s=60, max_attempts=3)
    lost = lose(entered)
    one(lost)
    after = lost.registry.steps.acquire("a", step_id, lease_s=60, max_attempts=3)
    assert after.fence > 1_000_000_000_000
    assert not lost.registry.steps.commit(before, {"late": True})


# Any time, any number of times


def test_jobs_that_are_known_are_left_as_they_are(entered):
    leave_chunks(entered, 0)
    assert one(entered) == Recovered("a", "known")
    assert entered.registry.steps.committed("a", "generate-0000") is None
    assert entered.registry.steps.claim_dispatch("a", FIRST.id, window_s=60), "it was not rung for"


def test_recovering_twice_is_recovering_once(entered):
    leave_chunks(entered, 0)
    lost = lose(entered)
    one(lost)
    texts = dict(lost.registry.backend.texts)
    assert one(lost) == Recovered("a", "known")
    assert lost.registry.backend.texts == texts


def test_a_worker_who_began_after_the_recovery_is_not_disturbed_by_another(entered):
    leave_chunks(entered, 0)
    lost = lose(entered)
    one(lost)
    lease = lost.registry.steps.acquire("a", "generate-0001", lease_s=60, max_attempts=3)
    one(lost)
    assert lost.registry.steps.commit(lease, {"attempt": lease.fence})


class Dying:
    """A ledger that ends the process that uses it, at the nth change."""

    def __init__(self, backend: Any, changes: int) -> None:
        self._ledger, self._changes = backend, changes

    def __getattr__(self, name: str) -> Any:
        if name == "swap":
            self._changes -= 1
            if self._changes < 0:
                raise KeyboardInterrupt
        return getattr(self._ledger, name)


@pytest.mark.parametrize("ended", [False, True])
def test_who_is_interrupted_may_begin_again(tmp_path, ended):
    ctx = Context(Settings(home=tmp_path), open_store("memory://"), open_registry("memory://"))
    enter(ctx, "a", REQUEST.model_copy(update={"idempotency_key": "order 66"}))
    leave_chunks(ctx, 0)
    if ended:
        Job(ctx, "a").cancel()
    for changes in range(20):
        lost = lose(ctx)
        dying = Context(ctx.settings, ctx.store, Registry(Dying(lost.registry.backend, changes)))
        try:
            one(dying)
        except KeyboardInterrupt:
            one(lost)
        assert lost.registry.jobs.status("a").state == ("cancelled" if ended else "queued")
        assert lost.registry.jobs.live() == ([] if ended else ["a"])
        assert [status.job_id for status in lost.registry.jobs.newest()] == ["a"]
        if not ended:
            assert lost.registry.steps.committed("a", "generate-0000")
            assert lost.registry.steps.current_step_id("a") == "generate-0000"
    assert changes > dying.registry.backend._changes >= 0, "the last one came to its end"


# The client


def test_the_farm_sends_what_it_recovers(tmp_path, broker):
    farm = Farm(broker, settings=Settings(home=tmp_path))
    job = farm.submit(REQUEST)
    with farm.context.registry.backend.redis as client:
        client.flushall()
    (found,) = farm.recover()
    assert (found.job_id, found.reason) == (job.id, "download")
    assert farm.context.registry.steps.dispatches(job.id, ["download"]) == [1]
    with farm.context.registry.backend.redis as client:
        assert sum(client.llen(name) for name in client.scan_iter("cpu*", _type="list")) == 1


# The whole way, through the real steps and the sketch


WAY = [FIRST, Step("embed"), Step("generate", 0), Step("generate", 1), LAST]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    home = tmp_path_factory.mktemp("home")
    with chosen(home / "weights") as model:
        settings = Settings(home=home).model_copy(update=model)
        yield Context(settings, open_store((home / "goods").as_uri()), open_registry("memory://"))
    warm_pipeline.cache_clear()


def video(ctx: Context, portrait: Path, voice: Path, *, losses: bool) -> list[bytes]:
    """The frames of a job's video; with losses the broker loses everything before each step."""
    for path in (portrait, voice):
        ctx.store.put(keys.upload(path), path)
    sources = {name: keys.SCHEME + keys.upload(path) for name, path in (("face", portrait), ("voice", voice))}
    given = {"cond_video": sources["face"], "cond_audio": {"person1": sources["voice"]}, "prompt": "a face talks"}
    small = {"mode": "streaming", "frame_num": 5, "motion_frame": 1, "max_frame_num": 8, "sample_steps": 1}
    job_id = "broken" if losses else "whole"
    enter(ctx, job_id, JobRequest.parse({**given, **small}))
    for step in WAY:
        if losses:
            ctx = lose(ctx)
            assert {each.job_id: each.step for each in recovered(ctx)}[job_id] == step
        run_step(ctx, job_id, step)
    with av.open(str(Job(ctx, job_id).save(ctx.settings.folder / f"{job_id}.mp4"))) as made:
        return [frame.to_ndarray().tobytes() for frame in made.decode(video=0)]


def test_a_video_whose_broker_lost_everything_before_each_step_is_the_same(whole, portrait, voice):
    unbroken = video(whole, portrait, voice, losses=False)
    assert video(whole, portrait, voice, losses=True) == unbroken
    assert len(unbroken) == 8
