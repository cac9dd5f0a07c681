"""A whole job through the real steps and the miniature model, and the destinations of its video."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farm.engine import journal
from farm.engine.advance import claim_due_step
from farm.engine.context import Context
from farm.engine.step_context import WorkerDraining
from farm.errors import UploadFailed
from farm.job import OutputConfig
from farm.registry import Registry
from farm.route import DOWNLOAD, EMBED, MUX, Step, steps_of_job
from tests.support.backends import CountingBackend
from tests.support.harness import Harness, open_harness
from tests.support.jobs import TWO_CHUNKS
from tests.support.steps import acquire, complete, run_step

STEPS = steps_of_job(2)


@pytest.fixture(scope="module")
def counted(
    tmp_path_factory: pytest.TempPathFactory, portrait: Path, word: Path
) -> tuple[Harness, dict[str, int]]:
    """A job of two chunks whose every step was run, and the requests that each step made."""
    harness = open_harness(tmp_path_factory.mktemp("home"), portrait, word)
    backend = CountingBackend(harness.clock)
    settings = harness.ctx.settings.model_copy(update={"lease_s": 600})  # none is renewed
    harness.ctx = replace(harness.ctx, settings=settings, registry=Registry(backend))
    harness.enter(**TWO_CHUNKS)
    harness.registry.steps.claim_dispatch("a", DOWNLOAD.id)
    requests = {}
    for step, after in zip(STEPS, [*STEPS[1:], None], strict=True):
        before = backend.requests
        assert harness.run(step) == after
        requests[step.id] = backend.requests - before
    return harness, requests


@pytest.fixture(scope="module")
def finished(counted: tuple[Harness, dict[str, int]]) -> Harness:
    return counted[0]


def copy_job(finished: Harness, job_id: str, steps: list[Step], **fields: Any) -> None:
    """Another job with the same request, of which other workers have completed some steps."""
    request = finished.registry.jobs.request("a").model_copy(update=fields)
    finished.registry.entries.add(job_id, request)
    for step in steps:
        committed = finished.committed(step)
        complete(
            finished.registry,
            step.id,
            committed.output,
            job_id=job_id,
            timings=committed.timings,
            inputs=committed.inputs,
            digests=committed.digests,
        )


def test_running_every_step_a_second_time_changes_nothing(finished):
    texts = dict(finished.clock.texts)
    streams = dict(finished.clock.streams)
    objects = dict(finished.store.objects)
    assert [finished.run(step) for step in STEPS] == [None] * 5
    assert claim_due_step(finished.ctx, "a") is None
    assert (finished.clock.texts, finished.clock.streams) == (texts, streams)
    assert finished.store.objects == objects


def test_events_lead_from_the_first_stage_to_the_last_and_never_back(finished):
    events = list(finished.registry.jobs.events("a", wait_s=0))
    assert [event.pct for event in events] == sorted(event.pct for event in events)
    assert (events[0].stage, events[-1].stage) == ("validation_started", "completed")
    assert events[-1].pct == 100


def test_the_result_holds_every_parameter_as_it_was_used(finished):
    result = finished.status.result
    used = {
        "frames": 8,
        "chunks": 2,
        "cuts": [],
        "base_seed": 42,
        "sample_shift": 7.0,
        "model": "miniature",
        "sample_steps": 1,
    }
    assert {name: result.params[name] for name in used} == used
    (warning,) = result.warnings
    assert "limited by max_frame_num" in warning


def test_the_result_repeats_no_secret_of_the_request(finished):
    secrets = {
        "webhook": "https://hook.example/?token=s3cret",
        "idempotency_key": "s3cret",
        "cond_video": "https://anna:s3cret@face.example/face.png?signature=s3cret",
    }
    copy_job(finished, "secret", STEPS[:-1], **secrets)
    run_step(finished.ctx, "secret", MUX)
    result = finished.registry.jobs.status("secret").result
    assert "s3cret" not in result.model_dump_json()
    assert result.params["cond_video"] == "https://face.example/face.png"


def test_the_result_holds_the_time_that_all_steps_took(finished):
    timings = finished.status.result.timings
    assert timings["total_ms"] >= timings["sampling_ms"] > 0
    assert timings["queue_ms"] >= 0
    for name in ("preprocess_ms", "embedding_ms", "mux_ms"):
        expected = sum(finished.committed(step).timings.get(name, 0) for step in STEPS)
        assert timings[name] == expected


def test_each_output_names_the_attempts_of_its_inputs(finished):
    attempts = {step.id: finished.committed(step).attempt_id for step in STEPS}
    steps = list(attempts)
    for number, step in enumerate(STEPS):
        earlier = {step_id: attempts[step_id] for step_id in steps[:number]}
        assert finished.committed(step).inputs == earlier


def test_the_end_of_a_finished_job_is_in_the_store(finished):
    assert journal.read_end(finished.store, "a") == finished.status


def test_the_result_lists_objects_of_the_store(finished):
    result = finished.status.result
    assert [artifact.type for artifact in result.artifacts] == ["video", "thumbnail", "manifest"]
    video_key = finished.committed(MUX).output.video_key
    assert finished.store.size(video_key) == result.video.bytes
    assert video_key.endswith("/infitalk_miniature-480_1_seed42_a.mp4")


REQUESTS = {"download": 4, "embed": 3, "generate-0000": 12, "generate-0001": 9, "mux": 9}
"""Requests to the registry by step. More of them are more load for the broker of a large farm."""


def test_each_step_makes_as_many_requests_to_the_registry_as_it_needs(counted):
    _, requests = counted
    assert requests == REQUESTS


def test_a_model_that_is_loaded_is_reported_with_the_begin_of_the_generation(counted):
    harness, requests = counted
    copy_job(harness, "warm", STEPS[:2])
    before = harness.registry.backend.requests
    assert run_step(harness.ctx, "warm", STEPS[2]) == STEPS[3]
    assert harness.registry.backend.requests - before == requests[STEPS[2].id] - 1
    stages = [event.stage for _, event in harness.registry.jobs.events_after("warm", "0")]
    assert stages[:3] == ["pipeline_warm_started", "pipeline_warm_ok", "generation_started"]


@pytest.mark.parametrize("step", [EMBED, MUX], ids=lambda step: step.id)
def test_a_worker_that_drains_in_the_middle_of_a_step_stops_there(finished, step):
    job_id = f"drained-{step.id}"
    copy_job(finished, job_id, STEPS[: STEPS.index(step)])
    answers = iter([False, True])
    with pytest.raises(WorkerDraining):
        run_step(finished.ctx, job_id, step, draining=lambda: next(answers))
    assert finished.registry.steps.committed(job_id, step.id) is None


def test_a_chunk_that_is_generated_again_after_a_crash_is_equal_bit_for_bit(finished):
    *before, crashed = STEPS[:4]
    copy_job(finished, "b", before)
    acquire(finished.registry, crashed.id, job_id="b", lease_s=15)
    finished.clock.advance(16)
    assert run_step(finished.ctx, "b", crashed) == MUX
    again = finished.registry.steps.committed("b", crashed.id).output.segment_key
    first = finished.committed(crashed).output.segment_key
    assert finished.store.get(again) == finished.store.get(first)


# Destinations


def before_mux(finished: Harness, job_id: str, config: dict[str, str], **settings: Any) -> Context:
    """The context of a job whose chunks are complete and whose video has another destination."""
    copy_job(finished, job_id, STEPS[:-1], output_config=OutputConfig.model_validate(config))
    changed = finished.ctx.settings.model_copy(update=settings)
    return replace(finished.ctx, settings=changed)


def test_a_video_and_its_artifacts_are_copied_to_a_folder(finished, tmp_path):
    config = {"store": "volume", "prefix": "of/anna"}
    ctx = before_mux(finished, "v", config, output_folder=tmp_path)
    run_step(ctx, "v", MUX)
    result = ctx.registry.jobs.status("v").result
    folder = tmp_path / "of" / "anna"
    name = "infitalk_miniature-480_1_seed42_v"
    video, thumbnail, manifest = (folder / f"{name}.{suffix}" for suffix in ("mp4", "jpg", "json"))
    assert set(folder.iterdir()) == {video, thumbnail, manifest}
    assert result.video.url == video.as_uri()
    assert result.video.thumbnail_url == thumbnail.as_uri()
    sizes = [path.stat().st_size for path in (video, thumbnail, manifest)]
    assert [artifact.bytes for artifact in result.artifacts] == sizes
    video_key = ctx.registry.steps.committed("v", "mux").output.video_key
    assert finished.store.get(video_key) == video.read_bytes()
    assert json.loads(manifest.read_text())["params"]["output_config"]["prefix"] == "of/anna"


def test_an_inline_video_is_in_the_result_and_not_in_the_manifest(finished):
    ctx = before_mux(finished, "i", {"store": "inline"})
    run_step(ctx, "i", MUX)
    result = ctx.registry.jobs.status("i").result
    video_key = ctx.registry.steps.committed("i", "mux").output.video_key
    assert base64.b64decode(result.video.base64) == finished.store.get(video_key)
    stored = finished.store.keys("jobs/i/mux/")
    manifest = next(key for key in stored if key.endswith("manifest.json"))
    assert "base64" not in json.loads(finished.store.get(manifest))["video"]


def test_a_video_that_is_too_large_for_its_result_ends_the_job_and_stays_in_the_store(finished):
    ctx = before_mux(finished, "large", {"store": "inline"}, output_inline_bytes=100)
    with pytest.raises(UploadFailed, match="a result holds at most 100"):
        run_step(ctx, "large", MUX)
    assert ctx.registry.jobs.status("large").result.error.code == "E_UPLOAD"
    stored = finished.store.keys("jobs/large/mux/0001-")
    assert any(key.endswith("_large.mp4") for key in stored)


def test_a_folder_that_cannot_be_written_is_retried_and_then_ends_the_job(finished, tmp_path):
    (tmp_path / "file").touch()
    settings = {"output_folder": tmp_path / "file", "store_retry_s": 0}
    ctx = before_mux(finished, "full", {"store": "volume"}, **settings)
    for _ in range(2):
        assert run_step(ctx, "full", MUX) is None
    with pytest.raises(UploadFailed):
        run_step(ctx, "full", MUX)
    assert ctx.registry.jobs.status("full").result.error.code == "E_UPLOAD"
