"""Twice is the same as once: what becomes of a step that fails, stalls, is shut down, cancelled or sent again."""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
import wave
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from farm.engine import journal
from farm.engine.attempt import RETRY_AFTER_S
from farm.engine.advance import claim_due_step
from tests.support.steps import run_step
from farm.engine.context import Context
from farm.route import FIRST, Step
from farm.engine.step_context import WorkerDraining
from farm.errors import DownloadFailed, EmbeddingFailed, FarmError, FarmUnreachable, TimedOut, UploadFailed, WorkerLost
from farm.job import JobRequest, OutputConfig, Result
from farm.logs import JsonLines
from farm.registry import Registry
from farm.registry.memory import MemoryBackend
from farm.settings import Settings
from farm.store import keys
from farm.store.memory import MemoryStore

EMBED, MUX = Step("embed"), Step("mux")
RESULT = Result(job_id="a", status="success").model_dump(mode="json")


class Clock(MemoryBackend):
    """A ledger whose clock a test can put forward."""

    remaining_gpu_s = 0.0

    def now(self) -> float:
        return super().now() + self.remaining_gpu_s


class Eventful(MemoryStore):
    """A store to which things happen, one each time it is written to, and which remembers from where."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []
        self.sources: list[Path | bytes] = []

    def put(self, key: str, source: Path | bytes) -> None:
        self.sources.append(source)
        if self.events:
            self.events.pop(0)()
        super().put(key, source)


@dataclass
class Harness:
    """One job, its place, and what its steps see of the world."""

    ctx: Context
    clock: Clock
    store: Eventful
    request: dict[str, Any] = field(default_factory=dict)

    def enter(self, **fields: Any) -> None:
        self.context.registry.jobs.add("a", JobRequest.parse({**self.request, **fields}))

    def another_makes(self, step: Step, job_id: str = "a", **output: Any) -> None:
        """Makes a product as another worker would."""
        lease = self.context.registry.steps.acquire(job_id, step.id, lease_s=60, max_attempts=9)
        assert lease
        assert self.context.registry.steps.commit(lease, {"timings": {}, "attempt": lease.fence, **output})

    def another_takes(self, step: Step, *, lease_s: float = 60) -> Any:
        return self.context.registry.steps.acquire("a", step.id, lease_s=lease_s, max_attempts=9)

    def step_id(self, step: Step) -> Any:
        return self.context.registry.steps.committed("a", step.id)

    def state(self) -> str:
        return self.context.registry.jobs.status("a").state

    def failure(self) -> Any:
        result = self.context.registry.jobs.status("a").result
        return result and result.error


@pytest.fixture(scope="session")
def word(voice: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first half second of the voice."""
    path = tmp_path_factory.mktemp("word") / "word.wav"
    with wave.open(str(voice)) as whole, wave.open(str(path), "wb") as part:
        part.setparams(whole.getparams())
        part.writeframes(whole.readframes(whole.getframerate() // 2))
    return path


def open_bench(folder: Path, portrait: Path, word: Path) -> Harness:
    clock, store = Clock(), Eventful()
    face, sound = keys.upload(portrait), keys.upload(word)
    store.put(face, portrait)
    store.put(sound, word)
    sources = {"cond_video": keys.SCHEME + face, "cond_audio": {"person1": keys.SCHEME + sound}}
    request = {"prompt": "a face talks", **sources}
    return Harness(Context(Settings(home=folder), store, Registry(clock)), clock, store, request)


@pytest.fixture
def harness(tmp_path: Path, portrait: Path, word: Path) -> Harness:
    return open_bench(tmp_path, portrait, word)


@pytest.fixture
def entered(harness: Harness) -> Harness:
    harness.enter()
    return harness


@pytest.fixture
def writing(harness: Harness) -> Harness:
    """A job whose download writes to the store, because its words have to be spoken."""
    harness.enter(cond_audio=None, tts_audio={"text": "hello"})
    return harness


# The way


def test_a_step_makes_its_product_and_names_the_next(entered):
    assert run_step(entered.context, "a", FIRST) == EMBED
    output = entered.id(FIRST)
    assert output["kind"] == "image"
    assert entered.store.size(output["visual"]) is not None
    assert entered.store.size(output["sounds"][0]) is not None
    assert output["timings"]["preprocess_ms"] >= 0


def test_an_attempt_writes_its_goods_down_last(writing):
    run_step(writing.context, "a", FIRST)
    written = [key for key in writing.store.objects if key.startswith("jobs/a/download/0001/")]
    assert written[-1] == "jobs/a/download/0001/output.json"
    assert len(written) == 2
    assert json.loads(writing.store.get(written[-1])) == writing.id(FIRST)


def test_goods_that_cannot_be_written_down_do_not_become_current(entered):
    entered.store.events = [refuse]
    assert run_step(entered.context, "a", FIRST) is None
    assert entered.id(FIRST) is None


def test_a_step_reports_on_the_way(entered):
    run_step(entered.context, "a", FIRST)
    status = entered.context.registry.jobs.status("a")
    assert (status.state, status.stage, status.pct) == ("running", "downloads_ok", 8)


def test_a_second_message_for_a_made_product_changes_nothing_and_sends_nothing(writing):
    run_step(writing.context, "a", FIRST)
    output, stored = writing.id(FIRST), sorted(writing.store.keys(""))
    assert run_step(writing.context, "a", FIRST) is None
    assert (writing.id(FIRST), sorted(writing.store.keys(""))) == (output, stored)


def test_a_made_product_whose_next_message_was_never_sent_sends_it(entered):
    entered.another_makes(FIRST)
    assert run_step(entered.context, "a", FIRST) == EMBED
    assert run_step(entered.context, "a", FIRST) is None


@pytest.mark.parametrize(
    ("made", "after"),
    [
        (Step("generate", 0), Step("generate", 1)),
        (Step("generate", 1), Step("generate", 2)),
        (Step("generate", 2), MUX),
    ],
    ids=lambda step: step.id,
)
def test_chunks_follow_each_other_to_the_end_of_the_plan(entered, made, after):
    entered.another_makes(EMBED, chunks=3)
    entered.another_makes(made, links={"init": "init.mp4", "segment": "segment.m4s"}, frames=5)
    assert run_step(entered.context, "a", made) == after


def test_the_last_product_ends_the_job(entered):
    entered.another_makes(EMBED, chunks=1)
    entered.another_makes(MUX, result=RESULT)
    assert run_step(entered.context, "a", MUX) is None
    assert entered.state() == "success"


def test_a_message_for_an_ended_job_does_nothing(entered):
    entered.context.registry.jobs.cancel("a", by="the caller")
    assert run_step(entered.context, "a", FIRST) is None
    assert entered.id(FIRST) is None
    assert entered.context.registry.steps.current_step_id("a") is None


def test_a_step_that_another_works_on_ends_quietly(entered):
    lease = entered.another_takes(FIRST)
    assert run_step(entered.context, "a", FIRST) is None
    assert (entered.id(FIRST), entered.state()) == (None, "queued")
    assert entered.context.registry.steps.commit(lease, {"timings": {}})


# Failures


def test_a_missing_upload_ends_the_job_with_code_stage_and_sentence(harness):
    harness.enter(cond_video="store://uploads/" + "0" * 64)
    with pytest.raises(DownloadFailed, match="cond_video: the store holds no uploads/0000"):
        run_step(harness.context, "a", FIRST)
    assert harness.state() == "error"
    failure = harness.failure()
    assert (failure.code, failure.at_stage, failure.retryable) == ("E_DOWNLOAD_FAILED", "downloads_started", False)


def test_a_store_key_that_is_no_upload_is_refused(harness):
    harness.enter(cond_video="store://jobs/b/request.json")
    with pytest.raises(Exception, match="allowed: store://uploads/"):
        run_step(harness.context, "a", FIRST)
    assert harness.failure().code == "E_INPUT_VALIDATION"


def test_an_upload_beyond_the_operators_limit_is_refused(harness):
    harness.enter()
    settings = harness.context.settings.model_copy(update={"max_visual_bytes": 10})
    with pytest.raises(DownloadFailed, match=r"cond_video: it is \d+ bytes; allowed: at most 10"):
        run_step(Context(settings, harness.store, harness.context.registry), "a", FIRST)


def test_text_instead_of_a_sound_ends_the_job_as_its_field(harness):
    key = keys.upload(b"just words")
    harness.store.put(key, b"just words")
    harness.enter(cond_audio={"person1": keys.SCHEME + key})
    with pytest.raises(Exception, match=r"cond_audio\.person1"):
        run_step(harness.context, "a", FIRST)
    assert harness.state() == "error"
    assert harness.failure().message.startswith("cond_audio.person1: ")


def test_an_unforeseen_exception_has_its_stations_code_and_keeps_its_cause(entered):
    with pytest.raises(EmbeddingFailed, match="embed: LookupError: embed came before download was made"):
        run_step(entered.context, "a", EMBED)
    failure = entered.failure()
    assert (failure.code, failure.cause_class, failure.retryable) == ("E_AUDIO_EMBEDDING", "LookupError", False)


def test_the_time_limits_exception_becomes_a_timeout(entered):
    with pytest.raises(TimedOut, match="embed took longer than FARM_STEP_TIMEOUT_S allows"):
        run_step(entered.context, "a", EMBED, time_is_up=LookupError)
    assert entered.failure().code == "E_TIMEOUT"


def refuse() -> None:
    raise UploadFailed("the store could not take it: disk full")


def test_a_failure_that_may_pass_is_tried_again_after_its_pause(writing):
    writing.store.events = [refuse]
    assert run_step(writing.context, "a", FIRST) is None
    assert (writing.state(), claim_due_step(writing.context, "a")) == ("running", None)
    writing.clock.remaining_gpu_s += RETRY_AFTER_S
    assert claim_due_step(writing.context, "a") == FIRST
    assert run_step(writing.context, "a", FIRST) == EMBED


def test_each_pause_is_twice_as_long_as_the_one_before(writing):
    writing.store.events = [refuse, refuse]
    run_step(writing.context, "a", FIRST)
    writing.clock.remaining_gpu_s += RETRY_AFTER_S
    run_step(writing.context, "a", FIRST)
    writing.clock.remaining_gpu_s += 1.5 * RETRY_AFTER_S
    assert claim_due_step(writing.context, "a") is None
    writing.clock.remaining_gpu_s += 0.6 * RETRY_AFTER_S
    assert claim_due_step(writing.context, "a") == FIRST


def test_a_failure_that_does_not_pass_ends_the_job_with_its_own_code(writing):
    writing.store.events = [refuse, refuse, refuse]
    for _ in range(UploadFailed.retries):
        assert run_step(writing.context, "a", FIRST) is None
        writing.clock.remaining_gpu_s += 10 * RETRY_AFTER_S
    with pytest.raises(UploadFailed, match="disk full"):
        run_step(writing.context, "a", FIRST)
    assert (writing.state(), writing.failure().code) == ("error", "E_UPLOAD")


def test_a_failure_keeps_its_own_code_where_the_operator_allows_one_attempt(writing):
    settings = writing.context.settings.model_copy(update={"max_attempts": 1})
    ctx = Context(settings, writing.store, writing.context.registry)
    writing.store.events = [refuse, refuse]
    with suppress(UploadFailed):
        run_step(ctx, "a", FIRST)
    writing.clock.remaining_gpu_s += 10 * RETRY_AFTER_S
    with suppress(FarmError):
        run_step(ctx, "a", FIRST)
    assert writing.failure().code == "E_UPLOAD"


def test_a_step_that_loses_worker_after_worker_parks_the_job(entered):
    for _ in range(entered.context.settings.max_attempts):
        entered.another_takes(FIRST)
        entered.clock.remaining_gpu_s += 61
    with pytest.raises(WorkerLost, match="download: 3 workers died on it"):
        run_step(entered.context, "a", FIRST)
    assert (entered.state(), entered.failure().code) == ("error", "E_WORKER_LOST")
    assert entered.failure().at_stage == "download"


def test_a_worker_that_is_shut_down_gives_its_step_back_at_once(writing):
    def shut_down() -> None:
        raise SystemExit

    writing.store.events = [shut_down]
    with pytest.raises(SystemExit):
        run_step(writing.context, "a", FIRST)
    assert (writing.state(), claim_due_step(writing.context, "a")) == ("running", FIRST)


def test_a_worker_that_is_shut_down_again_and_again_does_not_use_up_the_attempts(writing):
    def shut_down() -> None:
        raise SystemExit

    for _ in range(writing.context.settings.max_attempts + 1):
        writing.store.events = [shut_down]
        with pytest.raises(SystemExit):
            run_step(writing.context, "a", FIRST)
    assert run_step(writing.context, "a", FIRST) == EMBED


def test_a_worker_that_is_asked_to_go_begins_nothing(writing):
    stored = sorted(writing.store.keys(""))
    with pytest.raises(WorkerDraining, match="this worker is asked to go; download is another's now"):
        run_step(writing.context, "a", FIRST, leaving=lambda: True)
    assert (writing.state(), sorted(writing.store.keys(""))) == ("queued", stored)


@pytest.mark.parametrize("asked", [1, 2])
def test_a_worker_that_is_asked_to_go_stops_before_the_next_file(entered, asked):
    answers = iter([*[False] * asked, True])
    with pytest.raises(WorkerDraining):
        run_step(entered.context, "a", FIRST, leaving=lambda: next(answers))
    assert entered.id(FIRST) is None


def test_the_step_of_a_worker_that_went_is_for_whoever_has_its_message(entered):
    with pytest.raises(WorkerDraining):
        run_step(entered.context, "a", FIRST, leaving=lambda: True)
    assert run_step(entered.context, "a", FIRST) == EMBED


def test_the_message_of_a_worker_that_went_is_waited_for_again(entered):
    with pytest.raises(WorkerDraining):
        run_step(entered.context, "a", FIRST, leaving=lambda: True)
    assert claim_due_step(entered.context, "a") is None
    assert entered.context.registry.steps.undelivered(for_s=0) == [("a", FIRST.id)]


def test_workers_that_are_asked_to_go_do_not_use_up_the_attempts(entered):
    for _ in range(entered.context.settings.max_attempts + 1):
        with pytest.raises(WorkerDraining):
            run_step(entered.context, "a", FIRST, leaving=lambda: True)
    assert run_step(entered.context, "a", FIRST) == EMBED


def test_what_is_made_already_goes_on_though_its_worker_is_asked_to_go(entered):
    entered.another_makes(FIRST)
    assert run_step(entered.context, "a", FIRST, leaving=lambda: True) == EMBED


def test_a_job_that_is_cancelled_under_way_stops_and_stays_cancelled(writing):
    writing.store.events = [lambda: writing.context.registry.jobs.cancel("a", by="the caller")]
    assert run_step(writing.context, "a", FIRST) is None
    assert (writing.state(), writing.id(FIRST)) == ("cancelled", None)
    assert writing.failure().message == "cancelled by the caller at downloads_started"


def test_a_failure_of_a_job_that_was_cancelled_meanwhile_is_nobodys(writing):
    def cancelled_and_then_broken() -> None:
        writing.context.registry.jobs.cancel("a", by="the caller")
        raise UploadFailed("the disk is full", retryable=False)

    writing.store.events = [cancelled_and_then_broken]
    assert run_step(writing.context, "a", FIRST) is None
    assert (writing.state(), writing.failure().code) == ("cancelled", "E_CANCELLED")


def test_an_attempt_that_was_overtaken_is_thrown_away(writing):
    def overtake() -> None:
        writing.clock.remaining_gpu_s += 60
        writing.another_makes(FIRST, visual="the other's", sounds=["the other's"], kind="image")

    writing.store.events = [overtake]
    assert run_step(writing.context, "a", FIRST) is None
    assert writing.id(FIRST)["visual"] == "the other's"
    assert writing.state() == "running"


def test_a_failure_of_an_overtaken_attempt_does_not_end_the_job(writing):
    def overtaken_and_then_broken() -> None:
        writing.clock.remaining_gpu_s += 60
        writing.another_makes(FIRST, visual="the other's", sounds=["the other's"], kind="image")
        raise UploadFailed("the slow worker's own disk is full", retryable=False)

    writing.store.events = [overtaken_and_then_broken]
    with suppress(UploadFailed):
        run_step(writing.context, "a", FIRST)
    assert writing.state() == "running"


def test_a_lease_is_renewed_while_its_step_is_slow(writing):
    settings = writing.context.settings.model_copy(update={"lease_s": 0.2})
    taken = []

    def be_slow() -> None:
        time.sleep(0.6)
        taken.append(writing.another_takes(FIRST))

    writing.store.events = [be_slow]
    assert run_step(Context(settings, writing.store, writing.context.registry), "a", FIRST) == EMBED
    assert taken == [None]


def test_an_attempt_leaves_no_scratch_folder(writing):
    run_step(writing.context, "a", FIRST)
    scratch = next(source.parent for source in reversed(writing.store.sources) if isinstance(source, Path))
    assert scratch.name.startswith("farm-a-")
    assert not scratch.exists()


# What is due


def test_a_job_that_was_never_sent_is_due_once(entered):
    assert claim_due_step(entered.context, "a") == FIRST
    assert claim_due_step(entered.context, "a") is None


def test_a_message_that_was_lost_is_due_again_when_its_time_is_over(entered):
    claim_due_step(entered.context, "a")
    entered.clock.remaining_gpu_s += entered.context.settings.redispatch_after_s + 1
    assert claim_due_step(entered.context, "a") == FIRST


def test_nothing_is_due_while_somebody_works(entered):
    entered.another_takes(FIRST)
    assert claim_due_step(entered.context, "a") is None


def test_nothing_is_due_of_a_job_that_has_ended(entered):
    entered.context.registry.jobs.cancel("a", by="the caller")
    assert claim_due_step(entered.context, "a") is None


def test_the_end_of_a_job_is_settled_by_whoever_looks_if_who_ended_it_died(entered):
    entered.context.registry.jobs.cancel("a", by="the caller")
    assert entered.context.registry.jobs.live() == ["a"]
    claim_due_step(entered.context, "a")
    assert entered.context.registry.jobs.live() == []
    assert journal.end(entered.store, "a") == entered.context.registry.jobs.status("a")


def test_an_end_that_the_store_does_not_take_is_settled_later(entered):
    entered.context.registry.jobs.cancel("a", by="the caller")
    entered.store.events = [refuse]
    claim_due_step(entered.context, "a")
    assert (entered.context.registry.jobs.live(), journal.end(entered.store, "a")) == (["a"], None)
    claim_due_step(entered.context, "a")
    assert entered.context.registry.jobs.live() == []


def test_a_step_whose_worker_fell_silent_is_due(entered):
    entered.another_takes(FIRST, lease_s=15)
    entered.clock.remaining_gpu_s += 16
    assert claim_due_step(entered.context, "a") == FIRST


def test_what_comes_after_the_last_made_product_is_due(entered):
    entered.another_makes(FIRST)
    entered.another_makes(EMBED, chunks=2)
    assert claim_due_step(entered.context, "a") == Step("generate", 0)
    entered.another_makes(Step("generate", 0))
    assert claim_due_step(entered.context, "a") == Step("generate", 1)


def test_a_job_whose_video_is_made_is_ended_by_whoever_looks(entered):
    entered.another_makes(EMBED, chunks=1)
    entered.another_makes(MUX, result=RESULT)
    assert claim_due_step(entered.context, "a") is None
    assert entered.state() == "success"
    assert entered.context.registry.jobs.live() == []


# The whole way, through the real steps and the miniature model


WAY = [FIRST, EMBED, Step("generate", 0), Step("generate", 1), MUX]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, portrait: Path, word: Path) -> Harness:
    """A job of two chunks of five frames that has gone the whole way."""
    harness = open_bench(tmp_path_factory.mktemp("home"), portrait, word)
    harness.enter(mode="streaming", frame_num=5, motion_frame=1, max_frame_num=8, sample_steps=1)
    assert [run_step(harness.context, "a", step) for step in WAY] == [*WAY[1:], None]
    return harness


def test_every_step_done_a_second_time_changes_nothing(finished):
    texts, streams, objects = dict(finished.clock.texts), dict(finished.clock.streams), dict(finished.store.objects)
    assert [run_step(finished.context, "a", step) for step in WAY] == [None] * 5
    assert claim_due_step(finished.context, "a") is None
    assert (finished.clock.texts, finished.clock.streams, finished.store.objects) == (texts, streams, objects)


def test_events_lead_from_the_first_stage_to_the_last_and_never_back(finished):
    events = list(finished.context.registry.jobs.events("a", wait_s=0))
    assert [event.pct for event in events] == sorted(event.pct for event in events)
    assert (events[0].stage, events[-1].stage, events[-1].pct) == ("validation_started", "completed", 100)


def test_the_result_tells_every_parameter_as_it_was_used(finished):
    result = finished.context.registry.jobs.status("a").result
    used = {"frames": 8, "chunks": 2, "base_seed": 42, "sample_shift": 7.0, "model": "miniature", "sample_steps": 1}
    assert {name: result.params[name] for name in used} == used
    assert result.params["negative_prompt"]
    assert "max_frame_num is the cap" in result.warnings[0]
    assert result.timings["total_ms"] >= result.timings["sampling_ms"] > 0


def test_each_product_tells_of_which_attempts_it_is_made(finished):
    inputs = {step.id: finished.id(step)["made_of"] for step in WAY}
    first, second = "generate-0000", "generate-0001"
    assert inputs["download"] == {}
    assert inputs["embed"] == {"download": 1}
    assert inputs[first] == {"download": 1, "embed": 1}
    assert inputs[second] == {"download": 1, "embed": 1, first: 1}
    assert inputs["mux"] == {"download": 1, "embed": 1, first: 1, second: 1}


def test_a_finished_job_has_its_end_in_the_store(finished):
    assert journal.end(finished.store, "a") == finished.context.registry.jobs.status("a")


def test_the_result_lists_what_the_store_holds(finished):
    result = finished.context.registry.jobs.status("a").result
    assert [artifact.type for artifact in result.artifacts] == ["video", "thumbnail", "manifest"]
    assert finished.store.size(finished.id(MUX)["video"]) == result.video.bytes
    assert finished.id(MUX)["video"].endswith("/infitalk_infinitetalk-480_1_seed42_a.mp4")


@pytest.mark.parametrize("step", [EMBED, MUX], ids=lambda step: step.id)
def test_a_worker_that_is_asked_to_go_in_the_middle_stops_there(finished, step):
    job_id = f"asked-{step.id}"
    finished.context.registry.jobs.add(job_id, finished.context.registry.jobs.request("a"))
    for before in WAY[: WAY.index(step)]:
        finished.another_makes(before, job_id, **finished.id(before))
    answers = iter([False, True])
    with pytest.raises(WorkerDraining):
        run_step(finished.context, job_id, step, leaving=lambda: next(answers))
    assert finished.context.registry.steps.committed(job_id, step.id) is None


def test_a_chunk_made_again_after_a_crash_is_the_same_bit_for_bit(finished):
    finished.context.registry.jobs.add("b", finished.context.registry.jobs.request("a"))
    *before, crashed = WAY[:4]
    for step in before:
        finished.another_makes(step, "b", **finished.id(step))
    finished.context.registry.steps.acquire("b", crashed.id, lease_s=15, max_attempts=3)  # ... and that worker dies
    finished.clock.remaining_gpu_s += 16
    assert run_step(finished.context, "b", crashed) == MUX
    again = finished.context.registry.steps.committed("b", crashed.id)
    assert finished.store.get(again["segment"]) == finished.store.get(finished.id(crashed)["segment"])


# The video handed out


def mux_for(finished: Harness, job_id: str, output: dict[str, str], **settings: Any) -> Context:
    """A job whose chunks are made and whose results shall go elsewhere too, at the place that joins them."""
    wanted = OutputConfig.model_validate(output)
    request = finished.context.registry.jobs.request("a").model_copy(update={"output_config": wanted})
    finished.context.registry.jobs.add(job_id, request)
    for step in WAY[:-1]:
        finished.another_makes(step, job_id, **finished.id(step))
    return replace(finished.context, settings=finished.context.settings.model_copy(update=settings))


def test_a_video_and_all_that_belongs_to_it_goes_into_a_folder_as_well(finished, tmp_path):
    ctx = mux_for(finished, "v", {"store": "volume", "prefix": "of/anna"}, output_folder=tmp_path)
    run_step(ctx, "v", MUX)
    result = ctx.registry.jobs.status("v").result
    folder, name = tmp_path / "of" / "anna", "infitalk_infinitetalk-480_1_seed42_v"
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.jpg", f"{name}.json", f"{name}.mp4"]
    assert result.video.url == (folder / f"{name}.mp4").as_uri()
    assert result.video.thumbnail_url == (folder / f"{name}.jpg").as_uri()
    assert [artifact.bytes for artifact in result.artifacts] == [
        (folder / f"{name}.{ending}").stat().st_size for ending in ("mp4", "jpg", "json")
    ]
    assert finished.store.get(ctx.registry.steps.committed("v", "mux")["video"]) == (folder / f"{name}.mp4").read_bytes()
    assert json.loads((folder / f"{name}.json").read_text())["params"]["output_config"]["prefix"] == "of/anna"


def test_a_video_is_carried_by_its_result_and_not_by_its_manifest(finished):
    ctx = mux_for(finished, "i", {"store": "inline"})
    run_step(ctx, "i", MUX)
    result = ctx.registry.jobs.status("i").result
    assert base64.b64decode(result.video.base64) == finished.store.get(ctx.registry.steps.committed("i", "mux")["video"])
    manifest = next(key for key in finished.store.keys("jobs/i/mux/") if key.endswith("manifest.json"))
    assert "base64" not in json.loads(finished.store.get(manifest))["video"]


def test_a_video_that_is_too_large_for_its_result_ends_the_job_at_once_and_stays_in_the_store(finished):
    ctx = mux_for(finished, "large", {"store": "inline"}, output_inline_bytes=100)
    with pytest.raises(UploadFailed, match="a result carries at most 100"):
        run_step(ctx, "large", MUX)
    assert ctx.registry.jobs.status("large").result.error.code == "E_UPLOAD"
    assert any(key.endswith("_large.mp4") for key in finished.store.keys("jobs/large/mux/0001/"))


def test_a_folder_that_takes_nothing_is_tried_again_and_then_ends_the_job(finished, tmp_path):
    (tmp_path / "file").touch()
    settings = {"output_folder": tmp_path / "file", "store_retry_s": 0}
    ctx = mux_for(finished, "full", {"store": "volume"}, **settings)
    for _ in range(2):
        assert run_step(ctx, "full", MUX) is None
    with pytest.raises(UploadFailed):
        run_step(ctx, "full", MUX)
    assert ctx.registry.jobs.status("full").result.error.code == "E_UPLOAD"


class Away:
    """A ledger that those who hold a lease cannot reach."""

    def __init__(self, backend: Clock) -> None:
        self.backend = backend

    def __getattr__(self, name: str) -> Any:
        if threading.current_thread().name.startswith("lease-"):
            raise FarmUnreachable("no broker answers")
        return getattr(self.backend, name)


def test_a_lease_that_cannot_be_held_is_told_with_its_job(writing, caplog):
    caplog.set_level(logging.INFO, logger="farm")
    caplog.handler.setFormatter(JsonLines())
    settings = writing.context.settings.model_copy(update={"lease_s": 0.2})
    writing.store.events = [lambda: time.sleep(0.15)]
    run_step(Context(settings, writing.store, Registry(Away(writing.clock))), "a", FIRST)
    told = [json.loads(line) for line in caplog.text.splitlines()]
    assert {line["job_id"] for line in told if line["event"] == "lease_not_renewed"} == {"a"}
