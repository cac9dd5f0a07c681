"""What steps add to the metrics and to the estimates: every event is counted once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farm import metrics
from farm.caller import LOCAL
from farm.engine.accounting import count_commit, estimate_update, own_s
from farm.engine.attempt import RETRY_AFTER_S
from farm.engine.step_context import WorkerDraining
from farm.errors import Cancelled, GenerationFailed, UploadFailed, WorkerLost
from farm.estimate import Pace, chunk_s
from farm.registry.keys import REMAINING, remaining_of
from farm.registry.steps import NO_UPDATE, EstimateUpdate
from farm.route import DOWNLOAD, EMBED, Step
from tests.support.harness import refuse
from tests.support.jobs import REQUEST
from tests.support.outputs import (
    chunk_output,
    committed,
    download_output,
    embed_output,
    mux_output,
    notify_output,
)
from tests.support.steps import acquire, commit, complete, run_step

GENERATE = Step("generate", 0)

Sample = tuple[str, float, dict[str, str]]


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """Whatever is added to a metric during a test: its name, value and labels."""
    added: list[Sample] = []
    listeners = [lambda name, value, labels: added.append((name, value, dict(labels)))]
    monkeypatch.setattr(metrics, "_listeners", listeners)
    return added


def labels_of(samples: list[Sample], name: str) -> list[dict[str, str]]:
    return [labels for each, _, labels in samples if each == name]


# Metrics


def test_a_committed_step_is_timed(entered, samples):
    entered.run(DOWNLOAD)
    ((name, seconds, labels),) = samples
    assert (name, labels) == ("farm_step_seconds", {"step": "download"})
    assert 0 < seconds < 60


def test_a_message_for_a_committed_step_is_a_duplicate(entered, samples):
    entered.complete(DOWNLOAD)
    entered.run(DOWNLOAD)
    labels = {"step": "download", "reason": "committed"}
    assert samples == [("farm_duplicates_total", 1, labels)]


def test_a_message_for_a_leased_step_is_a_duplicate(entered, samples):
    acquire(entered.registry, DOWNLOAD.id)
    entered.run(DOWNLOAD)
    labels = {"step": "download", "reason": "leased"}
    assert samples == [("farm_duplicates_total", 1, labels)]


def test_an_output_of_a_superseded_attempt_is_a_duplicate(entered, samples):
    def supersede() -> None:
        entered.clock.advance(61)
        entered.complete(DOWNLOAD)

    entered.store.before_put = [supersede]
    entered.run(DOWNLOAD)
    labels = {"step": "download", "reason": "superseded"}
    assert samples == [("farm_duplicates_total", 1, labels)]


def test_a_failed_attempt_that_will_be_retried_is_a_retry(entered, samples):
    entered.store.before_put = [refuse]
    entered.run(DOWNLOAD)
    assert samples == [("farm_retries_total", 1, {"step": "download"})]


def test_the_last_attempt_is_no_retry(entered, samples):
    for _ in range(UploadFailed.retries):
        entered.store.before_put = [refuse]
        entered.run(DOWNLOAD)
        entered.clock.advance(10 * RETRY_AFTER_S)
    entered.store.before_put = [refuse]
    with pytest.raises(UploadFailed):
        entered.run(DOWNLOAD)
    assert len(labels_of(samples, "farm_retries_total")) == UploadFailed.retries


def test_an_expired_lease_is_counted_by_the_attempt_after_it(entered, samples):
    entered.lose_worker(DOWNLOAD)
    entered.run(DOWNLOAD)
    assert labels_of(samples, "farm_expired_leases_total") == [{"step": "download"}]


def test_a_released_lease_has_not_expired(entered, samples):
    entered.registry.steps.release(acquire(entered.registry, DOWNLOAD.id))
    entered.run(DOWNLOAD)
    assert labels_of(samples, "farm_expired_leases_total") == []


def test_a_step_that_lost_every_worker_is_counted_with_its_last_expired_lease(entered, samples):
    for _ in range(entered.ctx.settings.max_attempts):
        entered.lose_worker(DOWNLOAD)
    with pytest.raises(WorkerLost):
        entered.run(DOWNLOAD)
    assert labels_of(samples, "farm_worker_lost_total") == [{"step": "download"}]
    assert labels_of(samples, "farm_expired_leases_total") == [{"step": "download"}]


def test_a_chunk_is_timed_by_size_and_steps_without_loading_the_model(samples):
    timings = {"cold_start_ms": 1000, "load_ms": 3000, "sampling_ms": 5000}
    chunk = committed(chunk_output(frames=72), timings=timings)
    count_commit(Step("generate", 3), REQUEST, chunk, took_s=10)
    assert samples == [
        ("farm_step_seconds", 10, {"step": "generate"}),
        (
            "farm_chunk_seconds",
            6,
            {"model": "miniature", "size": "infinitetalk-480", "steps": "1-4"},
        ),
        ("farm_frames_total", 72, {"model": "miniature", "size": "infinitetalk-480"}),
    ]


def test_loading_that_takes_longer_than_the_attempt_leaves_no_time():
    assert own_s(1.0, {"load_ms": 2000}) == 0


# Estimates


def test_embed_knows_the_seconds_of_all_chunks():
    embedded = committed(embed_output(chunks=4))
    update = estimate_update(EMBED, REQUEST, embedded, chunks=None, took_s=9, gpus=2)
    assert update == EstimateUpdate(4 * chunk_s(REQUEST))


def test_a_chunk_knows_the_seconds_of_those_after_it_and_its_own_speed():
    took_s = 3 * chunk_s(REQUEST)
    chunk = committed(chunk_output())
    update = estimate_update(Step("generate", 1), REQUEST, chunk, chunks=4, took_s=took_s, gpus=2)
    assert update.remaining_gpu_s == 2 * chunk_s(REQUEST)
    assert (update.model, update.pace) == ("miniature", Pace(pytest.approx(3), cards=2))


def test_a_chunk_that_a_cpu_made_says_so_of_the_farms_pace():
    chunk = committed(chunk_output(on_cpu=True))
    update = estimate_update(Step("generate", 1), REQUEST, chunk, chunks=4, took_s=1, gpus=1)
    assert update.pace.on_cpu


def test_the_speed_of_a_chunk_is_that_without_loading_the_model():
    took_s = 3 * chunk_s(REQUEST)
    chunk = committed(chunk_output(), timings={"load_ms": round(1000 * chunk_s(REQUEST))})
    update = estimate_update(Step("generate", 1), REQUEST, chunk, chunks=4, took_s=took_s, gpus=2)
    assert update.pace.ratio == pytest.approx(2)


def test_after_the_last_chunk_nothing_remains():
    chunk = committed(chunk_output())
    update = estimate_update(Step("generate", 3), REQUEST, chunk, chunks=4, took_s=1, gpus=2)
    assert update.remaining_gpu_s == 0


@pytest.mark.parametrize("output", [download_output(), mux_output(), notify_output()])
def test_other_steps_change_no_estimate(output):
    step = Step(output.step)
    update = estimate_update(step, REQUEST, committed(output), chunks=4, took_s=1, gpus=2)
    assert update == NO_UPDATE


def test_a_committed_step_changes_what_remains_of_its_job(entered):
    remaining = entered.clock.indices[REMAINING]
    entered.run(DOWNLOAD)
    assert remaining == {"a": -1}
    lease = acquire(entered.registry, "embed")
    commit(entered.registry, lease, estimate=EstimateUpdate(remaining_gpu_s=12.0))
    assert remaining == {"a": 12.0}


# What is charged to the caller


def generate(harness, step_function, **hooks):
    """Runs the first chunk of Anna's job."""
    registry = harness.registry
    registry.entries.add("b", REQUEST, caller="anna")
    complete(registry, "embed", embed_output(chunks=2), job_id="b")
    return run_step(harness.ctx, "b", GENERATE, step_function=lambda _: step_function, **hooks)


def test_a_chunk_charges_its_gpu_seconds_without_loading_to_the_caller(harness):
    def chunk(ctx):
        ctx.timings["load_ms"] = 10**6
        return chunk_output()

    generate(harness, lambda ctx: chunk_output())
    used = harness.registry.accounts.used_gpu_s("anna")
    assert 0 < used < 60
    assert harness.registry.accounts.used_gpu_s(LOCAL) == 0
    harness.registry.entries.forget("b", ["embed", GENERATE.id])
    generate(harness, chunk)
    assert harness.registry.accounts.used_gpu_s("anna") == used


def test_each_card_of_a_worker_is_charged(harness, samples):
    cards = 10**6
    settings = harness.ctx.settings.model_copy(update={"gpus": cards})
    harness.registry.entries.add("b", REQUEST, caller="anna")
    complete(harness.registry, "embed", embed_output(chunks=2), job_id="b")
    run_step(
        replace(harness.ctx, settings=settings),
        "b",
        GENERATE,
        step_function=lambda _: lambda ctx: chunk_output(),
    )
    (took_s,) = [value for name, value, _ in samples if name == "farm_step_seconds"]
    assert took_s < harness.registry.accounts.used_gpu_s("anna") < cards * took_s


@pytest.mark.parametrize("error", [Cancelled("by Anna"), GenerationFailed("no luck")], ids=repr)
def test_a_chunk_that_is_cancelled_or_fails_is_charged_too(harness, error):
    def chunk(ctx):
        raise error

    generate(harness, chunk)
    assert harness.registry.accounts.used_gpu_s("anna") > 0


def test_a_chunk_that_another_worker_repeats_is_not_charged_to_the_caller(harness):
    def chunk(ctx):
        raise WorkerDraining

    with pytest.raises(WorkerDraining):
        generate(harness, chunk)
    assert harness.registry.accounts.used_gpu_s("anna") == 0


def test_a_commit_lowers_what_is_estimated_for_the_caller(harness):
    generate(harness, lambda ctx: chunk_output())
    index = remaining_of("anna")
    assert harness.clock.indices[index] == {"b": pytest.approx(chunk_s(REQUEST))}
