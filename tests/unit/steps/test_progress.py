"""The progress of a chunk: the contract's stages, their percentages, and their timings."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from farm import metrics
from farm.client.progress import detail
from farm.engine.context import Context
from farm.engine.step_context import StepContext, WorkerDraining, never_draining
from farm.errors import Cancelled
from farm.estimate import decode_s, sampling_s
from farm.job import Event
from farm.registry import open_registry
from farm.route import Step
from farm.settings import Settings
from farm.steps.progress import Progress
from farm.store import open_store
from tests.support.jobs import REQUEST
from tests.support.steps import step_context


def chunk_context(
    tmp_path: Path,
    chunk: int = 0,
    draining: Callable[[], bool] = never_draining,
    gpus: int = 1,
) -> StepContext:
    """What an attempt at a chunk of the job `a` is handed."""
    settings = Settings(home=tmp_path, gpus=gpus)
    ctx = Context(settings, open_store("memory://"), open_registry("memory://"))
    ctx.registry.entries.add("a", REQUEST)
    return step_context(ctx, Step("generate", chunk), scratch=tmp_path, draining=draining)


def generate(progress: Progress, steps: int) -> None:
    """Reports what the model reports of a chunk."""
    progress.report("pre", 0, 1)
    for step in range(steps + 1):
        progress.report("sampling", step, steps)
    for piece in range(22):
        progress.report("decode", piece, 21)


def events(ctx: StepContext) -> list[Event]:
    """Every event of the job so far."""
    ctx.registry.jobs.cancel("a", by="the test")
    return list(ctx.registry.jobs.events("a", wait_s=0))[:-1]


# Stages


def test_a_chunk_passes_through_the_contracts_stages(tmp_path):
    ctx = chunk_context(tmp_path)
    generate(Progress(ctx, 1), steps=2)
    stages = ["pre", "sampling_0", "sampling_50", "sampling_100", "decode", "decode"]
    assert [event.stage for event in events(ctx)] == [f"chunk_0_{stage}" for stage in stages]


def test_a_single_chunk_takes_the_job_from_20_to_85_percent(tmp_path):
    ctx = chunk_context(tmp_path)
    generate(Progress(ctx, 1), steps=2)
    assert [event.pct for event in events(ctx)] == pytest.approx([20, 20, 46, 72, 72, 85])


def test_pieces_are_reported_as_they_are_decoded_but_not_all_of_many_a_second(
    tmp_path, monkeypatch
):
    ctx = chunk_context(tmp_path)
    progress = Progress(ctx, 1)
    generate(progress, steps=2)
    monkeypatch.setattr(progress.pieces, "is_due", lambda: True)
    progress.report("decode", 11, 21)
    decoded = [event.pct for event in events(ctx) if event.stage == "chunk_0_decode"]
    assert decoded == pytest.approx([72, 85, 85])  # the last one came late, and takes nothing back


@pytest.mark.parametrize("chunk", [0, 1, 3])
def test_each_of_several_chunks_has_its_share(tmp_path, chunk):
    ctx = chunk_context(tmp_path, chunk)
    generate(Progress(ctx, 4), steps=3)
    percent = [event.pct for event in events(ctx)]
    assert percent == sorted(percent)
    expected = (20 + 65 * chunk / 4, 20 + 65 * (chunk + 1) / 4)
    assert (percent[0], percent[-1]) == pytest.approx(expected)


def test_details_hold_the_chunk_and_the_denoise_step(tmp_path):
    ctx = chunk_context(tmp_path, 1)
    generate(Progress(ctx, 3), steps=2)
    reported = events(ctx)
    assert reported[0].details == {"chunk": 1, "chunks": 3}
    sampled = reported[2].details
    assert sampled.pop("eta_s") >= 0
    assert sampled == {"chunk": 1, "chunks": 3, "step": 1, "steps": 2}


@pytest.mark.parametrize(
    ("details", "text"),
    [
        ({}, ""),
        ({"code": "E_OOM"}, ""),
        ({"chunk": 0, "chunks": 3}, "chunk 1 of 3"),
        (
            {"chunk": 2, "chunks": 3, "step": 4, "steps": 8, "eta_s": 12.4},
            "chunk 3 of 3, step 4 of 8, 12 s left",
        ),
    ],
    ids=str,
)
def test_the_progress_bar_counts_chunks_from_one(details, text):
    assert detail(Event(stage="x", pct=0, job_id="a", details=details)) == text


# The time that is left


def times_left(progress: Progress, ctx: StepContext, monkeypatch, reports) -> list[float | None]:
    """What is left at each report, which is made at a time of the model."""
    for at, *report in reports:
        clock = SimpleNamespace(monotonic=lambda at=at: at)
        monkeypatch.setattr("farm.steps.progress.time", clock)
        monkeypatch.setattr(progress.pieces, "is_due", lambda: True)
        progress.report(*report)
    return [event.details.get("eta_s") for event in events(ctx)]


SLOW_DECODE = [
    (100.0, "pre", 0, 1),
    (100.0, "sampling", 0, 2),
    (110.0, "sampling", 1, 2),
    (120.0, "sampling", 2, 2),
    (120.0, "decode", 0, 4),
    (130.0, "decode", 1, 4),
    (140.0, "decode", 2, 4),
    (160.0, "decode", 4, 4),
]


def test_the_first_chunk_expects_a_decode_in_proportion_and_then_sees_how_long_it_takes(
    tmp_path, monkeypatch
):
    ctx = chunk_context(tmp_path)
    decode = 20 * decode_s(REQUEST) / sampling_s(REQUEST)
    left = times_left(Progress(ctx, 3), ctx, monkeypatch, SLOW_DECODE)
    assert left[:2] == [None, None]
    assert left[2:5] == pytest.approx(
        [10 + 40 + 3 * decode, 40 + 3 * decode, 40 + 3 * decode], abs=0.1
    )
    assert left[5:] == pytest.approx([30 + 2 * 60, 20 + 2 * 60, 2 * 60])


def test_later_chunks_expect_what_the_one_before_took(tmp_path, monkeypatch):
    ctx = chunk_context(tmp_path, 1)
    timings = {"sampling_ms": 30_000, "decode_ms": 40_000, "load_ms": 9_000}
    ctx.seen["generate-0000"] = SimpleNamespace(timings=timings)
    left = times_left(Progress(ctx, 3), ctx, monkeypatch, SLOW_DECODE)
    assert left == pytest.approx([140, 140, 110, 100, 100, 90, 80, 60])


def test_the_bar_counts_down_what_is_left_between_two_events():
    event = Event(stage="chunk_0_decode", pct=40, job_id="a", details={"eta_s": 60})
    assert detail(event, since_s=20) == "40 s left"
    assert detail(event, since_s=90) == "0 s left"


# Stopping


@pytest.mark.parametrize("report", [("pre", 0, 1), ("sampling", 0, 4), ("sampling", 3, 4)], ids=str)
def test_a_draining_worker_stops_at_the_next_denoise_step(tmp_path, report):
    drain = threading.Event()
    progress = Progress(chunk_context(tmp_path, draining=drain.is_set), 1)
    progress.report("pre", 0, 1)
    drain.set()
    with pytest.raises(WorkerDraining):
        progress.report(*report)


@pytest.mark.parametrize("report", [("sampling", 4, 4), ("decode", 0, 1)], ids=str)
def test_a_draining_worker_finishes_a_chunk_that_is_sampled(tmp_path, report):
    drain = threading.Event()
    progress = Progress(chunk_context(tmp_path, draining=drain.is_set), 1)
    progress.report("pre", 0, 1)
    drain.set()
    progress.report(*report)


def test_a_cancelled_job_stops_at_the_next_denoise_step(tmp_path):
    ctx = chunk_context(tmp_path)
    progress = Progress(ctx, 1)
    progress.report("pre", 0, 1)
    ctx.registry.jobs.cancel("a", by="the caller")
    with pytest.raises(Cancelled, match="chunk_0_sampling_50 is interrupted"):
        progress.report("sampling", 1, 2)


def test_an_attempt_that_lost_its_lease_stops_at_its_next_report(tmp_path):
    ctx = chunk_context(tmp_path)
    ctx.lease_lost.set()
    message = "another attempt at generate-0000 holds the lease; this one stops at chunk_0_pre"
    with pytest.raises(Cancelled, match=message):
        Progress(ctx, 1).report("pre", 0, 1)
    assert events(ctx) == []


# Timings


def test_sampling_and_decoding_are_timed(tmp_path):
    progress = Progress(chunk_context(tmp_path), 1)
    generate(progress, steps=2)
    assert set(progress.timings()) == {"sampling_ms", "decode_ms"}
    assert min(progress.timings().values()) >= 0


def test_the_gpu_is_busy_from_the_first_report_to_the_last(tmp_path, monkeypatch):
    busy = []

    def listen(name: str, value: float, labels: object) -> None:
        assert name == "farm_gpu_busy_seconds_total"
        busy.append(value)

    monkeypatch.setattr(metrics, "_listeners", [listen])
    # Given a chunk whose preprocessing takes longer than all of the model
    progress = Progress(chunk_context(tmp_path), chunks=1)
    time.sleep(0.3)
    # When the model reports three times
    start = time.monotonic()
    for stage in ("pre", "sampling", "decode"):
        progress.report(stage, 0, 1)
        time.sleep(0.05)
    # Then the time before the first report is not counted
    assert 0.1 <= sum(busy) <= time.monotonic() - start - 0.05


@pytest.mark.parametrize("gpus", [1, 8])
def test_every_card_of_the_worker_is_busy(tmp_path, monkeypatch, gpus):
    busy = []
    monkeypatch.setattr(metrics, "_listeners", [lambda name, value, labels: busy.append(value)])
    clock = SimpleNamespace(monotonic=iter([1.0, 3.5]).__next__)
    monkeypatch.setattr("farm.steps.progress.time", clock)
    progress = Progress(chunk_context(tmp_path, gpus=gpus), chunks=1)
    progress.report("pre", 0, 1)
    progress.report("sampling", 0, 1)
    assert busy == [2.5 * gpus]
