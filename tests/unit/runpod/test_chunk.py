"""Chunks made from orders, by a worker that has signed URLs of an S3 service and nothing else."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from farm import Farm
from farm.client import Job
from farm.engine.context import Context
from farm.engine.kept_inputs import KeptInputs
from farm.engine.step_context import StepContext
from farm.errors import (
    Cancelled,
    FarmUnreachable,
    GenerationFailed,
    InvalidInput,
    TimedOut,
    VersionSkew,
)
from farm.job import Event, OutputConfig, ResolvedRequest
from farm.plan import Chunk
from farm.registry.formats import load
from farm.registry.outputs import ChunkOutput, Committed, StepOutput
from farm.route import Step
from farm.runpod.chunk import ANSWERED, LOST, MAX_LOST, RemoteChunk
from farm.runpod.order import ANSWER, LOST_WORKERS, Order, make_order
from farm.settings import Settings
from farm.steps.generate import unload_pipeline
from farm.store import integrity, keys
from tests.support.jobs import job_request
from tests.support.steps import step_context
from tests.support.swift import Swift
from tests.support.tiny_model import use_tiny_preset

EXAMPLES = Path(__file__).parents[3] / "examples"
CHUNKS = 3
ATTEMPT = "0007-00000000000000aa"

FILM = {
    "prompt": "a friendly person talks",
    "cond_audio": {"person1": str(EXAMPLES / "speech.wav")},
    "mode": "streaming",
    "frame_num": 5,
    "motion_frame": 1,
    "max_frame_num": 13,
    "sample_steps": 1,
}
IMAGE = str(EXAMPLES / "portrait.png")
VIDEO = str(EXAMPLES / "sitter.mp4")


class Film:
    """A finished job of a farm with an S3 store, whose chunks can be ordered once more."""

    def __init__(self, farm: Farm, job: Job, scratch: Path) -> None:
        self.ctx: Context = farm.context
        self.job = job
        self.scratch = scratch

    def committed(self, chunk: int) -> Committed:
        found = self.ctx.registry.steps.committed(self.job.id, Step("generate", chunk).id)
        assert found is not None
        return found

    def order(
        self, index: int, *, valid_s: int = 300, request: ResolvedRequest | None = None
    ) -> Order:
        request = request or self.ctx.registry.jobs.request(self.job.id)
        ctx = step_context(
            self.ctx,
            Step("generate", index),
            scratch=self.scratch,
            job_id=self.job.id,
            request=request,
            attempt_id=f"{ATTEMPT}{next(numbers):02d}",
        )
        embedded = ctx.embed_output
        chunk: Chunk = request.plan(embedded.frames, embedded.cuts).chunk(index)
        return make_order(ctx, self.ctx.store, chunk, valid_s=valid_s)

    def answer(self, order: Order) -> Committed:
        text = integrity.get_sealed(self.ctx.store, order.key(ANSWER))
        return load(text, Committed, name="the answer")


numbers = iter(range(100))


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The settings of a remote worker: the weights of the model, and no store."""
    home = tmp_path_factory.mktemp("worker")
    with use_tiny_preset(home / "weights") as model:
        yield Settings(home=home, **model)
    unload_pipeline()


def make_film(source: str, worker: Settings, swift: Swift, scratch: Path) -> Film:
    settings = swift.settings().model_copy(
        update={"home": worker.home, "weights": worker.weights, "presets": worker.presets}
    )
    farm = Farm("inline://", settings=settings)
    job = farm.submit({**FILM, "cond_video": source})
    job.result(timeout_s=300)
    return Film(farm, job, scratch)


@pytest.fixture(scope="module", params=[IMAGE, VIDEO], ids=["image", "video"])
def film(
    request: pytest.FixtureRequest,
    worker: Settings,
    swift: Swift,
    tmp_path_factory: pytest.TempPathFactory,
) -> Film:
    return make_film(request.param, worker, swift, tmp_path_factory.mktemp("scratch"))


@pytest.fixture
def run(worker: Settings) -> Callable[..., dict[str, Any]]:
    """Makes an ordered chunk as a worker does: from JSON, prefetched."""

    def run(
        order: Order,
        report: Callable[[Event], None] = lambda _: None,
        stop: threading.Event | None = None,
        kept: KeptInputs | None = None,
    ) -> dict[str, Any]:
        payload = json.loads(json.dumps(order.payload))
        chunk = RemoteChunk.open(payload, worker, kept)
        try:
            chunk.prefetch()
            return chunk.run(stop or threading.Event(), report)
        finally:
            chunk.close()

    return run


@pytest.mark.parametrize("index", range(CHUNKS))
def test_a_chunk_made_with_signed_urls_equals_the_one_made_by_the_farm(film, run, index):
    order = film.order(index)
    assert run(order) == ANSWERED
    made, own = film.answer(order).output, film.committed(index).output
    assert isinstance(made, ChunkOutput)
    store = film.ctx.store
    assert store.get(made.segment_key) == store.get(own.segment_key)
    assert (made.tail_key is None) == (own.tail_key is None) == (index == CHUNKS - 1)
    if made.tail_key and own.tail_key:
        assert store.get(made.tail_key) == store.get(own.tail_key)
    assert (made.frames, made.weights, made.used) == (own.frames, own.weights, own.used)


def test_the_digests_of_an_answer_are_those_of_its_objects(film, run):
    order = film.order(0)
    run(order)
    digests = film.answer(order).digests
    assert len(digests) >= 3
    assert all(keys.digest(film.ctx.store.get(key)) == sha for key, sha in digests.items())
    assert all(key.startswith(f"jobs/{film.job.id}/generate-0000/{ATTEMPT}") for key in digests)


def test_an_order_that_was_answered_is_not_computed_again(film, run):
    order = film.order(1)
    run(order)
    reported: list[Event] = []
    assert run(order, reported.append) == ANSWERED
    assert reported == []


def test_a_late_worker_changes_no_object_of_an_answer(film, run):
    order = film.order(1)
    objects = [order.key("segment.m4s"), order.key("tail.safetensors")]

    def answer_meanwhile(event: Event) -> None:
        if event.stage == "chunk_1_sampling_100":
            run(order)
            for key in objects:
                film.ctx.store.put(key, b"as the first worker left it")

    assert run(order, answer_meanwhile) == ANSWERED
    assert {film.ctx.store.get(key) for key in objects} == {b"as the first worker left it"}


def test_a_chunk_that_takes_longer_than_its_limit_fails(film, run):
    order = film.order(1).model_copy(update={"timeout_s": 0.0})
    with pytest.raises(TimedOut, match="generate-0001 took longer"):
        run(order)


def test_an_order_that_has_lost_too_many_workers_is_not_begun_again(film, run):
    order = film.order(1)
    film.ctx.store.put(order.key(LOST_WORKERS), str(MAX_LOST).encode())
    assert run(order) == LOST


def test_an_order_that_failed_has_lost_no_worker(film, worker):
    order = film.order(1)
    chunk = RemoteChunk.open(order.payload, worker)

    def fail(kind: str) -> Callable[[StepContext], StepOutput]:
        def run(ctx: StepContext) -> StepOutput:
            raise ValueError("no such luck")

        return run

    with pytest.raises(GenerationFailed, match="generate-0001: ValueError: no such luck"):
        chunk.run(threading.Event(), lambda _: None, fail)
    chunk.close()
    assert film.ctx.store.get(order.key(LOST_WORKERS)) == b"0"


def test_the_events_of_a_chunk_are_reported(film, run):
    reported: list[Event] = []
    run(film.order(1), reported.append)
    assert [event.stage for event in reported] == [
        "chunk_1_pre",
        "chunk_1_sampling_0",
        "chunk_1_sampling_100",
        "chunk_1_decode",
        "chunk_1_decode",
    ]
    assert all(event.details["chunks"] == CHUNKS for event in reported)


def test_a_chunk_stops_at_its_next_report(film, run):
    stop = threading.Event()
    order = film.order(1)

    def stop_when_sampling(event: Event) -> None:
        if "sampling" in event.stage:
            stop.set()

    with pytest.raises(Cancelled):
        run(order, stop_when_sampling, stop)
    with pytest.raises(KeyError):
        film.answer(order)


def test_a_worker_that_does_not_serve_the_model_says_so(film, worker):
    other = worker.model_copy(update={"presets": ("infinitetalk",)})
    chunk = RemoteChunk.open(film.order(0).payload, other)
    answer = chunk.run(threading.Event(), lambda _: None)
    chunk.close()
    assert "this worker serves infinitetalk" in answer["declined"]["reason"]
    assert answer["declined"]["after_s"] > 0


def test_the_next_chunk_on_the_same_worker_fetches_what_is_new_alone(film, run):
    kept = KeptInputs()
    run(film.order(1), kept=kept)
    inputs = {
        key for key in film.order(2).grants.reads if Path(key).name not in {ANSWER, LOST_WORKERS}
    }
    new = {Path(key).suffix for key in inputs if key not in kept}
    assert {".safetensors"} <= new <= {".safetensors", ".png"}  # the tail, and a video's frame
    assert any(key in kept for key in inputs)


def test_what_is_in_memory_is_read_only_if_the_order_may_read_it(film, run):
    kept = KeptInputs()
    run(film.order(1), kept=kept)
    order = film.order(2)
    (shared, *_) = [key for key in order.grants.reads if key in kept]
    reads = {key: url for key, url in order.grants.reads.items() if key != shared}
    grants = order.grants.model_copy(update={"reads": reads})
    with pytest.raises(InvalidInput, match="allowed: the objects that the order"):
        run(order.model_copy(update={"grants": grants}), kept=kept)


def test_a_worker_whose_disk_is_full_leaves_the_chunk_to_others(film, worker):
    def fill(ctx: StepContext) -> StepOutput:
        raise OSError(errno.ENOSPC, "No space left on device")

    chunk = RemoteChunk.open(film.order(0).payload, worker)
    answer = chunk.run(threading.Event(), lambda _: None, lambda _: fill)
    chunk.close()
    assert "the worker's temporary folder" in answer["declined"]["reason"]


def test_an_expired_url_fails_without_its_signature(film, worker):
    order = film.order(0, valid_s=1)
    chunk = RemoteChunk.open(order.payload, worker)

    def prefetch_until_refused() -> None:
        while True:  # until the second is over
            chunk.prefetch()

    with pytest.raises(FarmUnreachable) as caught:
        prefetch_until_refused()
    chunk.close()
    assert "may have expired" in caught.value.message
    assert "ignature" not in str(caught.value.describe(at_stage="generate"))


def test_an_order_has_only_what_its_chunk_needs(film):
    text = json.dumps(film.order(2).payload)
    settings = film.ctx.settings
    assert settings.s3_secret_key not in text
    assert str(film.job.status().result.video.url) not in text
    others = ("uploads/", "webhook", "voice-1", "playlist", str(film.ctx.settings.home))
    assert [each for each in others if each in text] == []
    granted = film.order(2).grants
    assert all(f"/generate-0002/{ATTEMPT}" in key for key in granted.writes)


def test_the_only_urls_of_an_order_are_its_grants(film):
    record = film.order(2).payload["order"]["record"]
    del record["grants"]
    assert "http" not in json.dumps(record)


def test_an_order_has_no_webhook_destination_or_key_of_its_job(film):
    private = {
        "webhook": "https://example.org/hook",
        "idempotency_key": "invoice-7",
        "output_config": OutputConfig(store="inline"),
    }
    request = film.ctx.registry.jobs.request(film.job.id).model_copy(update=private)
    sent = film.order(2, request=request).request
    assert {name: getattr(sent, name) for name in private} == dict.fromkeys(private)


def test_an_order_of_another_version_is_refused_by_name(film, worker):
    payload = film.order(0).payload
    payload["order"]["format"] = 2
    with pytest.raises(VersionSkew, match="the order is in format 2, and this version reads 1"):
        RemoteChunk.open(payload, worker)


def test_an_order_beside_other_fields_is_refused(film, worker):
    with pytest.raises(InvalidInput, match="got order with prompt"):
        RemoteChunk.open({**film.order(0).payload, "prompt": "x"}, worker)


def test_the_order_of_an_hour_is_below_100_kilobytes(film):
    """An hour of video from a video has 1,250 source frames and 60 pieces of audio."""
    committed = film.ctx.registry.steps.committed(film.job.id, "embed")
    embedded = committed.output
    many = 1250
    source_keys = tuple(
        keys.attempt(film.job.id, "embed", committed.attempt_id, f"source-{number:04d}.png")
        for number in range(many)
    )
    aac_keys = tuple(
        keys.attempt(film.job.id, "embed", committed.attempt_id, f"track-{number:04d}.aac")
        for number in range(63)
    )
    digests = dict.fromkeys((*source_keys, *aac_keys), "0" * 64)
    hour = embedded.model_copy(
        update={
            "frames": 90_000,
            "rows": 90_000,
            "chunks": many,
            "cuts": tuple(range(100, 90_000, 500)),
            "source_keys": source_keys,
            "aac_keys": aac_keys,
        }
    )
    ctx = step_context(
        film.ctx,
        Step("generate", 1),
        scratch=film.scratch,
        job_id=film.job.id,
        request=job_request(max_frame_num=90_000, mode="streaming"),
    )
    ctx.inputs["embed"] = committed.model_copy(update={"output": hour, "digests": digests})
    ctx.inputs["generate-0000"] = film.committed(0)
    chunk = ctx.request.plan(90_000, hour.cuts).chunk(1)
    order = make_order(ctx, film.ctx.store, chunk, valid_s=60)
    assert len(json.dumps(order.payload)) < 100_000
