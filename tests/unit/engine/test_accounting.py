"""What steps add to the numbers: whatever becomes of them is counted once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farm.engine.accounting import count_commit, estimate_update, own_s
from farm.engine.attempt import RETRY_AFTER_S
from tests.support.steps import run_step
from farm.engine.context import Context
from farm.route import Step
from farm.errors import UploadFailed, WorkerLost
from farm.estimate import chunk_s
from farm.job import JobRequest
from farm.metrics import listen
from farm.registry import Registry
from farm.registry.memory import MemoryBackend
from farm.registry.steps import NO_UPDATE
from farm.registry.steps import EstimateUpdate
from farm.settings import Settings
from farm.store import keys
from farm.store.memory import MemoryStore

DOWNLOAD, EMBED = Step("download"), Step("embed")
REQUEST = JobRequest(
    prompt="x", cond_video="https://example.org/face.png", cond_audio={"person1": "https://example.org/voice.wav"}
)
HEARD: list[tuple[str, float, dict[str, str]]] = []
listen(lambda name, value, labels: HEARD.append((name, value, dict(labels))))


class Clock(MemoryBackend):
    remaining_gpu_s = 0.0

    def now(self) -> float:
        return super().now() + self.remaining_gpu_s


class Failing(MemoryStore):
    """A store that can be told to take nothing, or to let another in between."""

    def __init__(self) -> None:
        super().__init__()
        self.before_put: list[Any] = []

    def put(self, key: str, source: Path | bytes) -> None:
        if self.before_put:
            self.before_put.pop()()
        super().put(key, source)


@pytest.fixture
def ctx(tmp_path: Path, portrait: Path, voice: Path) -> Context:
    """Where the job `a` is entered, whose sources are uploaded."""
    HEARD.clear()
    store = Failing()
    sources = [keys.upload(portrait), keys.upload(voice)]
    for key, path in zip(sources, (portrait, voice), strict=True):
        store.put(key, path)
    face, sound = (keys.SCHEME + key for key in sources)
    ctx = Context(Settings(home=tmp_path), store, Registry(Clock()))
    ctx.registry.jobs.add("a", JobRequest(prompt="x", cond_video=face, cond_audio={"person1": sound}))
    return ctx


def counted(name: str) -> list[dict[str, str]]:
    return [labels for each, _, labels in HEARD if each == name]


def another_takes(ctx: Context) -> Any:
    return ctx.registry.steps.acquire("a", "download", lease_s=60, max_attempts=9)


def refuse() -> None:
    raise UploadFailed("the store could not take it: disk full")


def test_a_product_that_is_made_is_timed(ctx):
    run_step(ctx, "a", DOWNLOAD)
    ((name, seconds, labels),) = HEARD
    assert (name, labels) == ("farm_step_seconds", {"station": "download"})
    assert 0 < seconds < 60


def test_a_message_whose_product_is_made_is_a_duplicate(ctx):
    ctx.registry.steps.commit(another_takes(ctx), {"timings": {}})
    run_step(ctx, "a", DOWNLOAD)
    assert HEARD == [("farm_duplicates_total", 1, {"station": "download", "found": "made"})]


def test_a_message_whose_step_another_has_is_a_duplicate(ctx):
    another_takes(ctx)
    run_step(ctx, "a", DOWNLOAD)
    assert HEARD == [("farm_duplicates_total", 1, {"station": "download", "found": "held"})]


def test_a_product_that_another_made_meanwhile_is_a_duplicate(ctx):
    def overtake() -> None:
        ctx.registry.backend.remaining_gpu_s += 61
        ctx.registry.steps.commit(another_takes(ctx), {"timings": {}})

    ctx.store.before_put = [overtake]
    run_step(ctx, "a", DOWNLOAD)
    assert HEARD == [("farm_duplicates_total", 1, {"station": "download", "found": "overtaken"})]


def test_an_attempt_that_is_tried_again_is_a_retry(ctx):
    ctx.store.before_put = [refuse]
    run_step(ctx, "a", DOWNLOAD)
    assert HEARD == [("farm_retries_total", 1, {"station": "download"})]


def test_the_last_attempt_is_no_retry(ctx):
    for _ in range(UploadFailed.retries):
        ctx.store.before_put = [refuse]
        run_step(ctx, "a", DOWNLOAD)
        ctx.registry.backend.remaining_gpu_s += 10 * RETRY_AFTER_S
    ctx.store.before_put = [refuse]
    with pytest.raises(UploadFailed):
        run_step(ctx, "a", DOWNLOAD)
    assert len(counted("farm_retries_total")) == UploadFailed.retries


def test_a_lease_that_ran_out_is_counted_by_who_takes_over(ctx):
    another_takes(ctx)
    ctx.registry.backend.remaining_gpu_s += 61
    run_step(ctx, "a", DOWNLOAD)
    assert counted("farm_lease_losses_total") == [{"station": "download"}]


def test_a_lease_that_was_given_back_is_not_lost(ctx):
    ctx.registry.steps.release(another_takes(ctx), retry_after_s=0)
    run_step(ctx, "a", DOWNLOAD)
    assert counted("farm_lease_losses_total") == []


def test_a_step_that_is_given_up_is_parked_and_its_lease_lost(ctx):
    for _ in range(ctx.settings.max_attempts):
        another_takes(ctx)
        ctx.registry.backend.remaining_gpu_s += 61
    with pytest.raises(WorkerLost):
        run_step(ctx, "a", DOWNLOAD)
    assert counted("farm_parked_total") == counted("farm_lease_losses_total") == [{"station": "download"}]


def test_a_chunk_is_timed_by_size_and_steps_without_the_loading():
    HEARD.clear()
    timings = {"cold_start_ms": 1000, "load_ms": 3000, "sampling_ms": 5000}
    count_commit(Step("generate", 3), REQUEST, {"timings": timings, "frames": 72}, took_s=10)
    assert HEARD == [
        ("farm_step_seconds", 10, {"station": "generate"}),
        ("farm_chunk_seconds", 6, {"size": "infinitetalk-480", "steps": "26-40"}),
        ("farm_frames_total", 72, {"size": "infinitetalk-480"}),
    ]


def test_loading_that_takes_longer_than_the_attempt_leaves_nothing():
    assert own_s(1.0, {"load_ms": 2000}) == 0


def test_embed_tells_the_seconds_of_all_chunks():
    assert estimate_update(EMBED, REQUEST, {"chunks": 4}, chunks=0, took_s=9) == EstimateUpdate(4 * chunk_s(REQUEST))


def test_a_chunk_tells_the_seconds_of_those_behind_it_and_its_pace():
    told = estimate_update(Step("generate", 1), REQUEST, {"timings": {}}, chunks=4, took_s=3 * chunk_s(REQUEST))
    assert told.remaining_gpu_s == 2 * chunk_s(REQUEST)
    assert told.speed_ratio == pytest.approx(3)


def test_the_last_chunk_leaves_nothing_ahead():
    assert estimate_update(Step("generate", 3), REQUEST, {"timings": {}}, chunks=4, took_s=1).remaining_gpu_s == 0


@pytest.mark.parametrize("station", ["download", "mux"])
def test_other_steps_tell_nothing_of_their_job(kind):
    assert estimate_update(Step(kind), REQUEST, {"timings": {}}, chunks=4, took_s=1) == NO_UPDATE


def test_a_made_product_moves_what_is_ahead_of_its_job(ctx):
    run_step(ctx, "a", DOWNLOAD)
    assert ctx.registry.backend.indices["ahead"] == {"a": -1}
    ctx.registry.steps.commit(
        ctx.registry.steps.acquire("a", "embed", lease_s=60, max_attempts=3), {"timings": {}}, EstimateUpdate(remaining_gpu_s=12.0)
    )
    assert ctx.registry.backend.indices["ahead"] == {"a": 12.0}
