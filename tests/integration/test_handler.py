"""Our handler on the SDK's real loop: whole jobs, batches, streams, and what ends them early."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from farm.engine import journal
from farm.job import Result
from farm.job.status import Failure
from farm.registry.attempt_id import fence_of
from farm.settings import Settings
from farm.store import Store, keys, open_store
from tests.conftest import EXAMPLES
from tests.support.holding import hold
from tests.support.runpod import FakeRunpod, Fault, RemoteJob, Worker, fake_runpod, start_worker
from tests.support.runpod.endpoint import Rules
from tests.support.runpod.faulty_handler import HOUR_S, time_passed
from tests.support.waiting import wait_for

FAULTY = ("-m", "tests.support.runpod.faulty_handler")
POLL_S = 80.0
SECRETS = ("/root", "/tmp", "Traceback", "site-packages")


def data_uri(mime: str, name: str) -> str:
    return f"data:{mime};base64,{b64encode((EXAMPLES / name).read_bytes()).decode()}"


FILM: dict[str, Any] = {
    "cond_video": data_uri("image/png", "portrait.png"),
    "cond_audio": {"person1": data_uri("audio/wav", "speech.wav")},
    "mode": "streaming",
    "frame_num": 5,
    "motion_frame": 1,
    "max_frame_num": 8,
    "sample_steps": 1,
}
"""Two chunks. Every test has a prompt of its own, since the same request is the same job."""


def film(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"input": {**FILM, "prompt": prompt, **fields}}


class Site:
    """A Runpod, and the volume that its workers share."""

    def __init__(self, runpod: FakeRunpod, home: Path) -> None:
        self.runpod = runpod
        self.settings = Settings(home=home)
        self.started = 0

    @property
    def store(self) -> Store:
        return open_store(self.settings.store_address, self.settings)

    def worker(
        self, command: Sequence[str] = FAULTY, **environ: str
    ) -> AbstractContextManager[Worker]:
        self.started += 1
        name = f"pod-{self.started}"
        log = self.settings.folder / f"{name}.log"
        environ = {"FARM_HOME": str(self.settings.folder), **environ}
        return start_worker(self.runpod, command, log, name=name, environ=environ)

    def log(self, name: str) -> str:
        return (self.settings.folder / f"{name}.log").read_text()

    def attempts(self, job_id: str, step_id: str) -> list[str]:
        """The ids of the attempts at a step that stored their output."""
        found = journal.completed_attempts(self.store.keys(keys.job(job_id)))
        return [attempt.attempt_id for attempt in found if attempt.step_id == step_id]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A Runpod with one worker, which serves all tests that end none."""
    home = tmp_path_factory.mktemp("volume")
    with fake_runpod() as runpod:
        site = Site(runpod, home)
        with site.worker():
            yield site


@pytest.fixture
def fresh_site(tmp_path: Path) -> Iterator[Site]:
    """A Runpod without workers, which soon takes one for lost."""
    with fake_runpod(Rules(lost_s=2, poll_s=POLL_S)) as runpod:
        yield Site(runpod, tmp_path)


def error_of(job: RemoteJob) -> Failure:
    """The contract's error object of a failed job, in which nothing of the worker shows."""
    assert job.status == "FAILED", job.view()
    text = json.dumps([job.error, job.output])
    assert not [secret for secret in SECRETS if secret in text], text
    return Failure.model_validate_json(json.dumps(job.error))


def result_of(job: RemoteJob) -> Result:
    assert job.status == "COMPLETED", job.view()
    return Result.model_validate_json(json.dumps(job.output))


def test_a_request_becomes_the_contracts_result(site: Site) -> None:
    job = site.runpod.finished(film("a result", base_seed=7))
    result = result_of(job)
    assert result.status == "success"
    assert result.params["base_seed"] == 7
    assert result.video is not None
    assert site.store.size(result.video.url.removeprefix(keys.SCHEME)) == result.video.bytes
    assert {each.type for each in result.artifacts} == {"video", "thumbnail", "manifest"}


def test_the_model_is_loaded_once_and_before_the_first_job(site: Site) -> None:
    result_of(site.runpod.finished(film("warm")))
    log = site.log("pod-1")
    assert log.count("pipeline_loaded") == 1
    assert log.index("pipeline_loaded") < log.index("step_started")


def test_a_random_seed_is_drawn_once_and_echoed(site: Site) -> None:
    first, second = (site.runpod.finished(film("a seed", base_seed=-1)) for _ in range(2))
    seeds = {result_of(job).params["base_seed"] for job in (first, second)}
    assert len(seeds) == 2
    named = site.runpod.finished(film("a seed", base_seed=result_of(first).params["base_seed"]))
    assert result_of(named).job_id == result_of(first).job_id


def test_the_same_request_again_is_not_computed_again(site: Site) -> None:
    first, second = (result_of(site.runpod.finished(film("twice"))) for _ in range(2))
    assert first == second


def test_an_idempotency_key_is_of_one_request(site: Site) -> None:
    first = site.runpod.finished(film("a key", idempotency_key="k1"))
    again = site.runpod.finished(film("a key", idempotency_key="k1"))
    other = site.runpod.finished(film("another", idempotency_key="k1"))
    assert result_of(again).job_id == result_of(first).job_id
    assert "idempotency_key: got 'k1'" in error_of(other).message


def test_a_bad_item_of_a_batch_stops_no_other(site: Site) -> None:
    good = film("a batch")["input"]
    items = [good, {**good, "promt": "x"}, "text", {**good, "id": "mine", "base_seed": 1}]
    output = site.runpod.finished({"input": {"batch": items}}).output
    assert output["status"] == "partial"
    assert [item["id"] for item in output["items"]] == ["item-0", "item-1", "item-2", "mine"]
    results = [item["result"] for item in output["items"]]
    assert [each["status"] for each in results] == ["success", "error", "error", "success"]
    assert results[1]["error"]["message"].endswith("did you mean prompt?")


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ({}, "E_INPUT_VALIDATION", "input: it is empty"),
        ({"prompt": "x"}, "E_INPUT_VALIDATION", "cond_video: it is missing"),
        ({**FILM, "prompt": "x", "seed": 1}, "E_INPUT_VALIDATION", "did you mean base_seed?"),
        ({**FILM, "prompt": "x", "cond_video": "/etc/passwd"}, "E_INPUT_VALIDATION", "files of"),
        (
            {**FILM, "prompt": "x", "cond_video": "http://127.0.0.1:8080/x.png"},
            "E_INPUT_VALIDATION",
            "127.0.0.1",
        ),
        (
            {**FILM, "prompt": "x", "cond_video": "store://jobs/a/request.json"},
            "E_INPUT_VALIDATION",
            "it is no upload",
        ),
        ({"batch": []}, "E_INPUT_VALIDATION", "batch: got an empty list"),
        ({"batch": [], "outputconfig": {}}, "E_INPUT_VALIDATION", "did you mean output_config?"),
        (
            {**FILM, "prompt": "x", "policy": {"executionTimeout": "1 h"}},
            "E_INPUT_VALIDATION",
            'policy: got {"executionTimeout": "1 h"}',
        ),
        ({"order": {"format": 99, "record": {}}}, "E_VERSION_SKEW", "the order is in format 99"),
        ({"order": {}, "prompt": "x"}, "E_INPUT_VALIDATION", "got order with prompt"),
    ],
)
def test_bad_input_is_answered_in_words(site: Site, given: Any, code: str, said: str) -> None:
    error = error_of(site.runpod.finished({"input": given}))
    assert error.code == code
    assert said in error.message


def test_progress_has_a_counter_that_grows(site: Site) -> None:
    with hold(site.settings, "chunk_1_pre") as release:
        job = site.runpod.submit(film("progress"))
        wait_for(lambda: job.progress and job.progress[-1]["stage"] == "chunk_1_pre")
        release()
        wait_for(lambda: job.ended)
    counters = [each["counter"] for each in job.progress]
    assert sorted(counters) == list(range(1, len(counters) + 1))
    (shown,) = (each for each in job.progress if each["stage"] == "chunk_1_pre")
    assert (shown["details"]["chunk"], shown["details"]["chunks"]) == (1, 2)
    assert 20 < shown["pct"] < 85


def test_the_next_jobs_inputs_are_fetched_while_one_has_the_gpu(site: Site) -> None:
    with hold(site.settings, "chunk_0_pre"):
        first = site.runpod.submit(film("on the GPU"))
        wait_for(lambda: first.progress and first.progress[-1]["stage"] == "chunk_0_pre")
        second = site.runpod.submit(film("waits for the GPU"))
        wait_for(lambda: second.progress and second.progress[-1]["stage"] == "embeddings_ok")
    wait_for(lambda: first.ended and second.ended)
    assert [result_of(job).status for job in (first, second)] == ["success", "success"]


@contextmanager
def held(
    site: Site, stage: str, body: dict[str, Any]
) -> Iterator[tuple[RemoteJob, str, Callable[[], None]]]:
    """A job that waits at a stage, the id of its job in the store, and what lets it go on."""
    with hold(site.settings, stage) as release:
        job = site.runpod.submit(body)
        wait_for(lambda: job.ended or (job.progress and job.progress[-1]["stage"] == stage))
        assert not job.ended, job.view()
        yield job, job.progress[-1]["job_id"], release


def test_a_cancelled_job_stops_within_its_chunk(site: Site) -> None:
    body = film("a cancel", sample_steps=3)
    with held(site, "chunk_0_sampling_0", body) as (job, job_id, _):
        site.runpod.cancel(job)
        stopping = f'"requestId": "{job.id}", "message": "Stopping job."'
        wait_for(lambda: stopping in site.log("pod-1"))
    assert result_of(site.runpod.finished(film("after a cancel"))).status == "success"
    assert (job.status, job.posts) == ("CANCELLED", [])
    assert site.attempts(job_id, "generate-0000") == []


def test_a_job_goes_on_where_its_time_was_up(site: Site) -> None:
    body = film("short of time", base_seed=-1, policy={"executionTimeout": 1000 * HOUR_S})
    with held(site, "chunk_1_pre", body) as (job, job_id, release), time_passed(site.settings):
        release()
        wait_for(lambda: job.ended)
    error = error_of(job)
    assert (error.code, error.retryable) == ("E_TIMEOUT", True)
    assert error.message.startswith("1 of 2 chunks are done")
    assert (job.output["chunks_done"], job.output["chunks"]) == ([0], 2)
    before = site.attempts(job_id, "generate-0000")
    again = site.runpod.finished(film("short of time", **job.output["params"]))
    assert result_of(again).job_id == job_id
    assert site.attempts(job_id, "generate-0000") == before
    assert len(before) == 1


def test_no_chunk_begins_that_would_not_end_in_time(site: Site) -> None:
    body = film("no time at all", policy={"executionTimeout": 1})
    error = error_of(site.runpod.finished(body))
    assert (error.code, error.message[:18]) == ("E_TIMEOUT", "0 of the chunks ar")


def test_a_result_that_cannot_be_posted_is_there_for_the_same_request(site: Site) -> None:
    body = film("a lost result")
    site.runpod.faults.add("job-done", Fault(500, times=3))
    lost = site.runpod.submit(body)
    wait_for(lambda: not site.runpod.faults.waiting["job-done"][-1].times)
    job = site.runpod.finished(body)
    assert (lost.status, lost.posts) == ("IN_PROGRESS", [])
    job_id = result_of(job).job_id
    assert len(site.attempts(job_id, "mux")) == 1
    site.runpod.cancel(lost)


def test_a_job_that_is_run_twice_has_one_result(site: Site) -> None:
    job = site.runpod.finished(film("run twice"))
    first = result_of(job)
    site.runpod.rerun(job)
    wait_for(lambda: job.ended)
    assert result_of(job) == first


def test_a_killed_worker_is_followed_by_another_one(fresh_site: Site) -> None:
    with (
        fresh_site.worker() as worker,
        held(fresh_site, "chunk_1_pre", film("a kill")) as (job, job_id, _),
    ):
        worker.kill()
    with fresh_site.worker():
        wait_for(lambda: job.ended)
    assert job.runs == ["pod-1", "pod-2"]
    assert result_of(job).job_id == job_id
    assert len(fresh_site.attempts(job_id, "generate-0000")) == 1
    (second,) = fresh_site.attempts(job_id, "generate-0001")
    assert fence_of(second) > 1, "the killed attempt may still write"


def test_an_exit_in_a_step_ends_the_job_and_not_the_worker(fresh_site: Site) -> None:
    with fresh_site.worker(EXIT_IN="generate-0001") as worker:
        error = error_of(fresh_site.runpod.finished(film("an exit")))
        assert fresh_site.runpod.finished({"input": {}}).status == "FAILED"
        assert worker.process.poll() is None
    assert (error.code, error.cause_class) == ("E_GENERATION_RUNTIME", "SystemExit")
    assert error.message == "generate-0001: SystemExit: place is full"


def test_a_step_that_kills_its_workers_is_given_up(fresh_site: Site) -> None:
    environ = {"DIE_IN": "generate-0000", "FARM_MAX_ATTEMPTS": "2"}
    job = fresh_site.runpod.submit(film("deaths"))
    for _ in range(2):
        with fresh_site.worker(**environ) as worker:
            assert worker.process.wait() == 1
    with fresh_site.worker(**environ):
        wait_for(lambda: job.ended)
    error = error_of(job)
    assert (error.code, error.retryable) == ("E_WORKER_LOST", False)
    assert job.runs == ["pod-1", "pod-2", "pod-3"]


def test_a_terminated_worker_ends_at_once_and_leaves_its_jobs_to_others(fresh_site: Site) -> None:
    with (
        fresh_site.worker() as worker,
        held(fresh_site, "chunk_1_pre", film("a term")) as (job, job_id, release),
    ):
        worker.terminate()
        wait_for(lambda: "worker_draining" in worker.output())
        handed_out = fresh_site.runpod.submit(film("on the open request"))
        wait_for(lambda: handed_out.runs)
        released_at = time.monotonic()
        release()
        assert worker.process.wait() == 0
        assert time.monotonic() - released_at < POLL_S / 2, "it waits for its open requests"
    for each in (job, handed_out):
        wait_for(lambda each=each: each.status == "IN_QUEUE")
        assert each.posts == []
    assert len(fresh_site.attempts(job_id, "generate-0000")) == 1
    assert fresh_site.attempts(job_id, "generate-0001") == []


def test_a_stream_has_each_chunk_and_then_the_result(fresh_site: Site) -> None:
    with fresh_site.worker(FARM_RUNPOD_STREAMING="true"):
        job = fresh_site.runpod.finished(film("a stream"))
        failed = fresh_site.runpod.finished({"input": {"prompt": "x"}})
    *chunks, result = job.parts
    assert [(part["chunk"], part["chunks"], part["frames"]) for part in chunks] == [
        (0, 2, 5),
        (1, 2, 3),
    ]
    for part in chunks:
        assert fresh_site.store.size(part["url"].removeprefix(keys.SCHEME))
    assert Result.model_validate_json(json.dumps(result)).status == "success"
    assert job.output == job.parts
    assert Failure.model_validate_json(failed.error).code == "E_INPUT_VALIDATION"
