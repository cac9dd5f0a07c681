"""A chunk's progress, in the contract's stages and as a person reads it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from farm.client.progress import detail
from farm.engine.context import Context
from farm.route import Step
from farm.engine.step_context import WorkerDraining, StepContext, never_draining
from farm.errors import Cancelled
from farm.job import Event, JobRequest
from farm.metrics import listen
from farm.registry import open_registry
from farm.settings import Settings
from farm.steps.progress import Progress
from farm.store import open_store

REQUEST = JobRequest(
    prompt="x", cond_video="https://example.org/face.png", cond_audio={"person1": "https://example.org/voice.wav"}
)


def working(tmp_path: Path, step: Step, leaving: Callable[[], bool] = never_draining) -> StepContext:
    """An attempt at a step of the job `a`."""
    ctx = Context(Settings(home=tmp_path), open_store("memory://"), open_registry("memory://"))
    ctx.registry.jobs.add("a", REQUEST)
    lease = ctx.registry.steps.acquire("a", step.id, lease_s=60, max_attempts=3)
    assert lease
    return StepContext(
        ctx.settings, ctx.store, ctx.registry, step, lease, REQUEST, tmp_path, threading.Event(), leaving
    )


def make_chunk(progress: Progress, steps: int) -> None:
    progress.report("pre", 0, 1)
    for step in range(steps + 1):
        progress.report("sampling", step, steps)
    progress.report("decode", 0, 1)
    progress.report("decode", 1, 1)


def events(step_ctx: StepContext) -> list[Event]:
    step_ctx.registry.jobs.cancel("a", by="the test")
    return list(step_ctx.registry.jobs.events("a", wait_s=0))[:-1]


def test_a_chunk_passes_through_the_contracts_stages(tmp_path):
    step_ctx = working(tmp_path, Step("generate", 0))
    make_chunk(Progress(step_ctx, 1), steps=2)
    stages = ["pre", "sampling_0", "sampling_50", "sampling_100", "decode", "decode"]
    assert [event.stage for event in events(step_ctx)] == [f"chunk_0_{stage}" for stage in stages]


@pytest.mark.parametrize("reached", [("pre", 0, 1), ("sampling", 0, 4), ("sampling", 3, 4)], ids=str)
def test_a_worker_that_is_asked_to_go_stops_at_the_next_denoise_step(tmp_path, reached):
    asked = threading.Event()
    progress = Progress(working(tmp_path, Step("generate", 0), asked.is_set), 1)
    progress.report("pre", 0, 1)
    asked.set()
    with pytest.raises(WorkerDraining):
        progress.report(*reached)


@pytest.mark.parametrize("reached", [("sampling", 4, 4), ("decode", 0, 1)], ids=str)
def test_a_worker_that_is_asked_to_go_finishes_a_chunk_that_is_sampled(tmp_path, reached):
    asked = threading.Event()
    progress = Progress(working(tmp_path, Step("generate", 0), asked.is_set), 1)
    progress.report("pre", 0, 1)
    asked.set()
    progress.report(*reached)


def test_one_chunk_fills_the_room_between_20_and_85_percent(tmp_path):
    step_ctx = working(tmp_path, Step("generate", 0))
    make_chunk(Progress(step_ctx, 1), steps=2)
    assert [event.pct for event in events(step_ctx)] == pytest.approx([20, 20, 46, 72, 72, 85])


@pytest.mark.parametrize("chunk", [0, 1, 3])
def test_each_of_several_chunks_has_its_share(tmp_path, chunk):
    step_ctx = working(tmp_path, Step("generate", chunk))
    make_chunk(Progress(step_ctx, 4), steps=3)
    percent = [event.pct for event in events(step_ctx)]
    assert percent == sorted(percent)
    assert (percent[0], percent[-1]) == pytest.approx((20 + 65 * chunk / 4, 20 + 65 * (chunk + 1) / 4))


def test_details_say_which_chunk_and_which_step(tmp_path):
    step_ctx = working(tmp_path, Step("generate", 1))
    make_chunk(Progress(step_ctx, 3), steps=2)
    told = events(step_ctx)
    assert told[0].details == {"chunk": 1, "chunks": 3}
    sampled = told[2].details
    assert (sampled["chunk"], sampled["chunks"], sampled["step"], sampled["steps"]) == (1, 3, 1, 2)
    assert sampled["eta_s"] >= 0


def test_sampling_and_decoding_are_timed(tmp_path):
    progress = Progress(working(tmp_path, Step("generate", 0)), 1)
    make_chunk(progress, steps=2)
    assert set(progress.timings()) == {"sampling_ms", "decode_ms"}
    assert min(progress.timings().values()) >= 0


def test_a_cancelled_job_stops_at_the_next_denoise_step(tmp_path):
    step_ctx = working(tmp_path, Step("generate", 0))
    progress = Progress(step_ctx, 1)
    progress.report("pre", 0, 1)
    step_ctx.registry.jobs.cancel("a", by="the caller")
    with pytest.raises(Cancelled, match="chunk_0_sampling_50 stops here"):
        progress.report("sampling", 1, 2)


def test_an_attempt_that_was_taken_over_stops_at_its_next_report(tmp_path):
    step_ctx = working(tmp_path, Step("generate", 0))
    step_ctx.lost.set()
    with pytest.raises(Cancelled, match="another worker took generate-0000 over"):
        Progress(step_ctx, 1).report("pre", 0, 1)
    assert events(step_ctx) == []


@pytest.mark.parametrize(
    ("details", "text"),
    [
        ({}, ""),
        ({"code": "E_OOM"}, ""),
        ({"chunk": 0, "chunks": 3}, "chunk 1 of 3"),
        ({"chunk": 2, "chunks": 3, "step": 4, "steps": 8, "eta_s": 12.4}, "chunk 3 of 3, step 4 of 8, 12 s left"),
    ],
    ids=str,
)
def test_people_count_chunks_from_one(details, text):
    assert detail(Event(stage="x", pct=0, job_id="a", details=details)) == text


def test_the_model_is_busy_from_the_conditions_to_the_last_frame(tmp_path):
    busy = []
    listen(lambda name, value, _: busy.append(value) if name == "farm_gpu_busy_seconds_total" else None)
    began = time.monotonic()
    progress = Progress(working(tmp_path, Step("generate")), chunks=1)
    for stage in ("pre", "sampling", "decode"):
        time.sleep(0.05)
        progress.report(stage, 0, 1)
    assert len(busy) == 3
    assert 0.15 <= sum(busy) <= time.monotonic() - began
